// What Ollama's own client for JavaScript asks.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.argv[2] });
const asked = {
  model: "smollm2",
  messages: [{ role: "user", content: "Repeat: one two three four five six seven eight nine." }],
  options: { temperature: 0, num_predict: 8 },
};
const listed = await client.list();
assert(listed.models.some((model) => model.name === "smollm2:latest"));
assert((await client.show({ model: "smollm2" })).capabilities.includes("completion"));
const whole = await client.chat(asked);
let streamed = "";
for await (const part of await client.chat({ ...asked, stream: true })) {
  streamed += part.message.content;
}
assert.equal(streamed, whole.message.content);
assert.equal(whole.eval_count, 8);
await assert.rejects(client.chat({ ...asked, model: "nosuch" }), /model 'nosuch' not found/);
