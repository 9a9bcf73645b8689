// openai for Node.
const { OpenAI, toFile } = require("openai");
const { DENIED, LIMITED, UPLOAD, digest, run } = require("./surfaces.cjs");

const client = new OpenAI({ maxRetries: 0 });
const strict = (apiKey) => new OpenAI({ apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];

run({
  plain: async () => (await client.chat.completions.create({ model: "m", messages })).choices[0].message.content,
  stream: async () => {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: "m", messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    return text;
  },
  responses_stream: async () => {
    let text = "";
    for await (const event of await client.responses.create({ model: "m", input: "hi", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return text;
  },
  embeddings: async () => [...(await client.embeddings.create({ model: "m", input: "a" })).data[0].embedding],
  upload: async () => {
    const made = await client.files.create({ file: await toFile(UPLOAD, "notes.jsonl"), purpose: "batch" });
    return [made.filename, made.bytes];
  },
  download: async () => digest(await (await client.files.content("file-1")).arrayBuffer()),
  speech: async () =>
    digest(await (await client.audio.speech.create({ model: "m", voice: "alloy", input: "hi" })).arrayBuffer()),
  pages: async () => {
    const found = [];
    for await (const file of client.files.list({ limit: 2 })) found.push(file.id);
    return found;
  },
  denied: () => strict(DENIED).models.list(),
  denied_upload: async () =>
    strict(DENIED).files.create({ file: await toFile(Buffer.alloc(20_000_000), "big.jsonl"), purpose: "batch" }),
  limited: () => strict(LIMITED).chat.completions.create({ model: "m", messages }),
  rate_limited: () => client.chat.completions.create({ model: "fake-429", messages }),
});
