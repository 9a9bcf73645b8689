// Runs one call of a client under Node. As prelude.py does it: LLAMAKEY_PROBE says what, nothing but
// the proxy is connected to, and the last line of the output is what came of it.
"use strict";
const net = require("node:net");
const dns = require("node:dns");
const path = require("node:path");
const { createRequire } = require("node:module");
const { pathToFileURL } = require("node:url");

const wish = JSON.parse(process.env.LLAMAKEY_PROBE);
delete process.env.LLAMAKEY_PROBE;
const strays = [];
const names = new Set(wish.names);
const ports = new Set(wish.places.map(([, port]) => port));
const addresses = new Set(wish.places.map(([host]) => host));

const refused = (host, port) => {
  strays.push(`${host}:${port}`);
  return new Error(`${host} is not the proxy`);
};

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const options = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (options && typeof options === "object" && !options.path) {
    const host = options.host ?? "localhost";
    const known = names.has(host) || addresses.has(host);
    if (!known || !ports.has(Number(options.port))) {
      const error = refused(host, options.port);
      process.nextTick(() => this.destroy(error));
      return this;
    }
  }
  return connect.apply(this, given);
};
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => {
  if (names.has(host)) return lookup(host, ...rest);
  const error = refused(host, "");
  process.nextTick(() => rest.at(-1)(error));
};

const load = async (name) => {
  const from = createRequire(path.join(wish.root, "x.js"));
  return import(pathToFileURL(from.resolve(name)).href);
};

const end = (result) => {
  const text = JSON.stringify({ ...result, strays });
  process.stdout.write(`\nLLAMAKEY-PROBE ${text}\n`, () => process.exit(0));
};

const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction("load", "BASE", "HEADERS", "MARK", wish.call)(
  load, wish.base, wish.headers, wish.mark,
).then(
  () => end({ error: "" }),
  (error) => end({ error: error?.constructor?.name ?? "Error", text: String(error?.stack ?? error) }),
);
