// @pinecone-database/pinecone for Node.
const { Pinecone } = require("@pinecone-database/pinecone");
const { DENIED, run } = require("./surfaces.cjs");

const client = new Pinecone();

run({
  pages: async () => (await client.listIndexes()).indexes.map((index) => index.name),
  index: async () => {
    const index = client.index({ name: "docs-example", namespace: "n" });
    await index.upsert({ records: [{ id: "a", values: [0.1, 0.2, 0.3] }] });
    const found = await index.query({ vector: [0.1, 0.2, 0.3], topK: 1 });
    return [found.matches[0].id, (await index.describeIndexStats()).totalRecordCount];
  },
  denied: async () => await new Pinecone({ apiKey: DENIED, controllerHostUrl: process.env.PINECONE_CONTROLLER_HOST }).listIndexes(),
});
