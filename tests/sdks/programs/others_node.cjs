// @anthropic-ai/sdk, groq-sdk and @google/genai for Node.
const { Anthropic } = require("@anthropic-ai/sdk");
const { Groq } = require("groq-sdk");
const { GoogleGenAI } = require("@google/genai");
const { DENIED, LIMITED, UPLOAD, run } = require("./surfaces.cjs");

const anthropic = new Anthropic({ maxRetries: 0 });
const groq = new Groq({ maxRetries: 0 });
const genai = new GoogleGenAI({});
const messages = [{ role: "user", content: "hi" }];
const ask = { model: "m", max_tokens: 9, messages };
const contents = { model: "gemini-fake-1", contents: "hi" };

run({
  anthropic_plain: async () => (await anthropic.messages.create(ask)).content[0].text,
  anthropic_stream: async () => (await anthropic.messages.stream(ask).finalText()),
  anthropic_pages: async () => {
    const found = [];
    for await (const model of anthropic.models.list({ limit: 2 })) found.push(model.id);
    return found;
  },
  anthropic_denied: () => new Anthropic({ apiKey: DENIED, maxRetries: 0 }).messages.create(ask),
  anthropic_limited: () => new Anthropic({ apiKey: LIMITED, maxRetries: 0 }).messages.create(ask),
  groq_plain: async () => (await groq.chat.completions.create({ model: "m", messages })).choices[0].message.content,
  groq_stream: async () => {
    let text = "";
    for await (const chunk of await groq.chat.completions.create({ model: "m", messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    return text;
  },
  groq_denied: () => new Groq({ apiKey: DENIED, maxRetries: 0 }).chat.completions.create({ model: "m", messages }),
  genai_plain: async () => (await genai.models.generateContent(contents)).text,
  genai_stream: async () => {
    let text = "";
    for await (const chunk of await genai.models.generateContentStream(contents)) text += chunk.text ?? "";
    return text;
  },
  genai_embeddings: async () => (await genai.models.embedContent(contents)).embeddings[0].values,
  genai_pages: async () => {
    const found = [];
    for await (const model of await genai.models.list({ config: { pageSize: 2 } })) found.push(model.name);
    return found;
  },
  genai_upload: async () => {
    const file = new Blob([UPLOAD], { type: "text/plain" });
    const made = await genai.files.upload({ file, config: { mimeType: "text/plain", displayName: "node" } });
    return [made.uri === `https://generativelanguage.googleapis.com/v1beta/${made.name}`, Number(made.sizeBytes)];
  },
  genai_limited: () => new GoogleGenAI({ apiKey: LIMITED }).models.generateContent(contents),
});
