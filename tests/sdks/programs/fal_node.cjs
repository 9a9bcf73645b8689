// @fal-ai/client for Node.
const { createFalClient, fal } = require("@fal-ai/client");
const { DENIED, run } = require("./surfaces.cjs");

const input = { prompt: "hi" };

run({
  plain: async () => (await fal.run("fal-ai/flux/dev", { input })).data.images[0].url,
  subscribe: async () => (await fal.subscribe("fal-ai/flux/dev", { input })).data.prompt,
  streamed: async () => (await fal.subscribe("fal-ai/flux/dev", { input, mode: "streaming" })).data.prompt,
  queue: async () => {
    const { request_id: requestId, status_url: place } = await fal.queue.submit("fal-ai/flux/dev", { input });
    const { status } = await fal.queue.status("fal-ai/flux/dev", { requestId });
    await fal.queue.cancel("fal-ai/flux/dev", { requestId });
    return [new URL(place).host, status, (await fal.queue.result("fal-ai/flux/dev", { requestId })).data.prompt];
  },
  denied: () => createFalClient({ credentials: DENIED }).run("fal-ai/flux/dev", { input }),
});
