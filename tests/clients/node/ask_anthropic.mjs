// What Anthropic's client for JavaScript asks.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.argv[2], apiKey: "x", maxRetries: 0 });
const asked = {
  model: "smollm2",
  messages: [{ role: "user", content: "Repeat: one two three four five six seven eight nine." }],
  temperature: 0,
  max_tokens: 8,
};
const whole = await client.messages.create(asked);
const final = await client.messages.stream(asked).finalMessage();
assert.deepEqual(final.content, whole.content);
assert.equal(whole.stop_reason, "max_tokens");
assert.equal(final.stop_reason, "max_tokens");
assert.equal(final.usage.output_tokens, 8);
const { model, messages } = asked;
const counted = await client.messages.countTokens({ model, messages });
assert.equal(counted.input_tokens, whole.usage.input_tokens);
await assert.rejects(client.messages.create({ ...asked, model: "nosuch" }), { status: 404 });
