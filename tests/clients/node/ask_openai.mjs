// What OpenAI's client for JavaScript asks: chat and responses.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "x", maxRetries: 0 });
const asked = {
  model: "smollm2",
  messages: [{ role: "user", content: "Repeat: one two three four five six seven eight nine." }],
  temperature: 0,
  max_tokens: 8,
};
const whole = await client.chat.completions.create(asked);
const options = { ...asked, stream: true, stream_options: { include_usage: true } };
let streamed = "";
let usage = null;
for await (const chunk of await client.chat.completions.create(options)) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, whole.choices[0].message.content);
assert.deepEqual(usage, whole.usage);
const response = { model: "smollm2", input: "Repeat: one two three four five six seven eight nine.", temperature: 0, max_output_tokens: 8 };
const answered = await client.responses.create(response);
let text = "";
for await (const event of await client.responses.create({ ...response, stream: true })) {
  if (event.type === "response.output_text.delta") text += event.delta;
}
assert.equal(text, answered.output_text);
await assert.rejects(client.chat.completions.create({ ...asked, model: "nosuch" }), {
  status: 404,
  type: "not_found_error",
});
