// @google/genai for Node against Vertex AI.
const { GoogleGenAI } = require("@google/genai");
const { run } = require("./surfaces.cjs");

const genai = new GoogleGenAI({});
const ask = { model: "gemini-fake-1", contents: "hi" };

run({
  plain: async () => (await genai.models.generateContent(ask)).text,
  stream: async () => {
    let text = "";
    for await (const chunk of await genai.models.generateContentStream(ask)) text += chunk.text ?? "";
    return text;
  },
  argument: async () => (await new GoogleGenAI({ vertexai: true }).models.generateContent(ask)).text,
  count: async () => (await genai.models.countTokens(ask)).totalTokens,
});
