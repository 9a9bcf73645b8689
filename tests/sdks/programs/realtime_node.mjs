// openai's realtime API for Node, and Google's Live API.
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_PATH + "/");
const { OpenAI } = require("openai");
const { OpenAIRealtimeWS } = require("openai/realtime/ws");
const { GoogleGenAI } = require("@google/genai");
const { DENIED, digest, run } = createRequire(import.meta.url)("./surfaces.cjs");

const talk = (client) =>
  new Promise((resolve, reject) => {
    const session = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);
    let text = "";
    const audio = [];
    session.socket.on("open", () => {
      session.send({ type: "session.update", session: { type: "realtime", instructions: "Be kind." } });
      session.send({ type: "response.create" });
    });
    session.on("error", reject);
    session.on("response.output_text.delta", (event) => (text += event.delta));
    session.on("response.output_audio.delta", (event) => audio.push(Buffer.from(event.delta, "base64")));
    session.on("response.done", (event) => {
      session.close();
      resolve([text, digest(Buffer.concat(audio)), event.response.usage.output_tokens]);
    });
  });

const live = (client) =>
  new Promise((resolve, reject) => {
    let text = "";
    let session;
    client.live
      .connect({
        model: "gemini-live-fake",
        callbacks: {
          onmessage: (message) => {
            text += message.text ?? "";
            if (message.usageMetadata) {
              session.close();
              resolve([text, message.usageMetadata.totalTokenCount]);
            }
          },
          onerror: reject,
          onclose: (event) => reject(new Error(`closed: ${event.code} ${event.reason}`)),
        },
      })
      .then((opened) => {
        session = opened;
        session.sendClientContent({ turns: "hi", turnComplete: true });
      }, reject);
  });

run({
  realtime: () => talk(new OpenAI()),
  realtime_denied: () => talk(new OpenAI({ apiKey: DENIED })),
  live: () => live(new GoogleGenAI({})),
}).then(() => process.exit());
