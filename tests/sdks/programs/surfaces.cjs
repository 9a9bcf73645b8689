// What the Node programs share; see surfaces.py.
const crypto = require("node:crypto");
const net = require("node:net");

const results = {};
const strays = [];

// What it would connect to beyond this machine is one more surface, which no run expects.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const options = Array.isArray(args[0]) ? args[0][0] : args[0];
  const host = options?.host ?? (typeof args[1] === "string" ? args[1] : "localhost");
  if (!["localhost", "127.0.0.1", "::1"].includes(host)) strays.push(host);
  return connect.apply(this, args);
};
exports.DENIED = process.env.FAKE_DENIED_KEY ?? "";
exports.LIMITED = process.env.FAKE_LIMITED_KEY ?? "";
exports.UPLOAD = Buffer.concat(Array(200).fill(Buffer.from("line one\r\n\0\xff line two", "latin1")));
exports.digest = (data) => crypto.createHash("sha256").update(Buffer.from(data)).digest("hex");

/** Calls each function of the object in turn, and prints what came of them as JSON. */
exports.run = async (calls) => {
  for (const [name, call] of Object.entries(calls)) {
    try {
      results[name] = { value: await call() };
    } catch (error) {
      const kinds = [];
      for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) kinds.push(kind.name);
      results[name] = { raised: kinds[0], kinds, text: String(error?.message).slice(0, 2000), status: error?.status };
    }
  }
  if (strays.length) results.strays = { value: strays };
  console.log(JSON.stringify(results));
};
