// OpenAI's client for Node against `pylon api` with the demo model. Arguments: the server's address.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const model = "gpt-oss-nano";
const hungary = "Name the capital of Hungary.";
const answer = "The capital of Hungary is Budapest.";
const paris = "What is the weather in Paris?";
const result = JSON.stringify({ temperature: 21, sky: "sunny" });
const weather = {
  name: "get_weather",
  description: "Get the current weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });

const tests = {
  async models() {
    const ids = [];
    for await (const it of client.models.list()) ids.push(it.id);
    assert.deepEqual(ids, [model]);
  },

  async chat() {
    const messages = [{ role: "user", content: hungary }];
    const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
    assert.equal(whole.choices[0].message.content, answer);
    const stream = client.chat.completions.stream({ model, messages, temperature: 0 });
    assert.equal(await stream.finalContent(), answer);
  },

  async chat_tools() {
    const tools = [{ type: "function", function: weather }];
    const messages = [{ role: "user", content: paris }];
    const first = await client.chat.completions.create({ model, messages, tools, temperature: 0 });
    const [call] = first.choices[0].message.tool_calls;
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: result });
    const second = await client.chat.completions.create({ model, messages, tools, temperature: 0 });
    assert.equal(second.choices[0].message.content, "It is 21 degrees and sunny in Paris.");
  },

  async responses() {
    const tools = [{ type: "function", ...weather, strict: false }];
    const first = await client.responses.create({ model, input: paris, tools, temperature: 0 });
    const call = first.output.find((item) => item.type === "function_call");
    const input = [{ type: "function_call_output", call_id: call.call_id, output: result }];
    const second = await client.responses.create({
      model, previous_response_id: first.id, input, tools, temperature: 0,
    });
    assert.equal(second.output_text, "It is 21 degrees and sunny in Paris.");
    const stream = client.responses.stream({ model, input: hungary, temperature: 0 });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
    assert.equal((await stream.finalResponse()).output_text, answer);
  },

  async going_away() {
    const controller = new AbortController();
    const messages = [{ role: "user", content: hungary }];
    const options = { signal: controller.signal };
    const stream = await client.chat.completions.create({ model, messages, stream: true }, options);
    for await (const _ of stream) {
      controller.abort();
      break;
    }
    const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
    assert.equal(whole.choices[0].message.content, answer);
  },

  async errors() {
    await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
    await assert.rejects(client.responses.retrieve("resp_none"), OpenAI.NotFoundError);
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`openai ${VERSION} (Node): ${name} ok`);
}
