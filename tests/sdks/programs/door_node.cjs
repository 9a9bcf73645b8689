// cohere-ai and @huggingface/inference for Node as their documentation writes them; https.request.
const https = require("node:https");
const { CohereClientV2 } = require("cohere-ai");
const { InferenceClient } = require("@huggingface/inference");
const { DENIED, run } = require("./surfaces.cjs");

const cohere = new CohereClientV2({});
const huggingface = new InferenceClient(process.env.HF_TOKEN);
const messages = [{ role: "user", content: "hi" }];
const ask = { model: "team/chat", messages };

/** Status and body of a plain request. */
const get = (url) =>
  new Promise((resolve, reject) => {
    const request = https.get(url, { headers: { Authorization: "Bearer placeholder" } }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => resolve([answer.statusCode, Buffer.concat(pieces).toString()]));
    });
    request.on("error", reject);
  });

run({
  cohere_plain: async () => (await cohere.chat({ model: "m", messages })).message.content[0].text,
  cohere_stream: async () => {
    let text = "";
    for await (const event of await cohere.chatStream({ model: "m", messages })) {
      if (event.type === "content-delta") text += event.delta.message.content.text;
    }
    return text;
  },
  cohere_denied: () => new CohereClientV2({ token: DENIED, maxRetries: 0 }).chat({ model: "m", messages }, { maxRetries: 0 }),
  huggingface_plain: async () => (await huggingface.chatCompletion(ask)).choices[0].message.content,
  huggingface_stream: async () => {
    let text = "";
    for await (const chunk of huggingface.chatCompletionStream(ask)) text += chunk.choices[0]?.delta.content ?? "";
    return text;
  },
  https: async () => {
    const [status, body] = await get("https://api.mistral.ai/v1/models");
    return [status, JSON.parse(body).data.map((model) => model.id)];
  },
  refused: () => get("https://example.com/"),
  fetch_refused: async () => {
    try {
      await fetch("https://example.com/");
    } catch (error) {
      // Node's own way through a proxy raises what is no Error, and says less
      throw new Error(String(error.cause?.message ?? error.message));
    }
  },
});
