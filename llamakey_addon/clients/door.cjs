// Makes https.request and fetch go by HTTPS_PROXY in versions of Node that don't: `lmk run` preloads
// it by NODE_OPTIONS. Since 22.21 and 24.5 Node does it by itself, told by NODE_USE_ENV_PROXY.
"use strict";

const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const tls = require("node:tls");

const [major, minor] = process.versions.node.split(".").map(Number);
const httpsKnows = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
const fetchKnows = httpsKnows || major === 24;
const text = process.env.HTTPS_PROXY || process.env.https_proxy;
const spared = (process.env.NO_PROXY || process.env.no_proxy || "")
  .split(",")
  .map((word) => word.trim().toLowerCase().replace(/^\*?\./, ""))
  .filter(Boolean);

function isSpared(host) {
  const name = host.toLowerCase();
  return spared.some((word) => word === "*" || name === word || name.endsWith(`.${word}`));
}

/** A TLS socket through the proxy; `done(error, socket)`. */
function tunnel(proxy, host, port, options, done) {
  const authority = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const headers = { Host: authority };
  if (proxy.username || proxy.password) {
    const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    headers["Proxy-Authorization"] = `Basic ${Buffer.from(pair).toString("base64")}`;
  }
  let left = done;
  const once = (error, socket) => {
    const call = left;
    left = null;
    if (call) call(error, socket);
  };
  const request = http.request({
    method: "CONNECT",
    host: proxy.hostname.replace(/^\[|\]$/g, ""),
    port: proxy.port || 80,
    path: authority,
    headers,
    agent: false,
  });
  request.once("error", once);
  request.once("response", (response) => {
    response.resume();
    once(new Error(`CONNECT ${authority}: ${response.statusCode} ${response.statusMessage}`));
  });
  request.once("connect", (response, socket) => {
    if (response.statusCode !== 200) {
      socket.destroy();
      once(new Error(`CONNECT ${authority}: ${response.statusCode} ${response.statusMessage}`));
      return;
    }
    const secured = tls.connect({
      ...options,
      socket,
      servername: options.servername || (net.isIP(host) ? "" : host),
    });
    secured.once("error", once);
    secured.once("secureConnect", () => once(null, secured));
  });
  request.end();
}

if (text) {
  const proxy = new URL(text);
  if (!httpsKnows) {
    class DoorAgent extends https.Agent {
      createConnection(options, done) {
        const host = options.host || options.hostname;
        if (options.socketPath || isSpared(host)) return super.createConnection(options, done);
        tunnel(proxy, host, options.port || 443, { ...options, path: undefined }, done);
        return undefined;
      }
    }
    https.globalAgent = new DoorAgent({ keepAlive: true, scheduling: "lifo", timeout: 5000 });
  }
  if (!fetchKnows && globalThis.Headers) {
    // Asking for a part of fetch has loaded it, and with it the agent that all its calls go by.
    const place = Symbol.for("undici.globalDispatcher.1");
    const Agent = globalThis[place]?.constructor;
    if (Agent) {
      const connect = (options, done) => {
        const host = options.hostname.replace(/^\[|\]$/g, "");
        const secure = options.protocol === "https:";
        const port = options.port || (secure ? 443 : 80);
        const how = { servername: options.servername, ALPNProtocols: ["http/1.1"] };
        if (secure && !isSpared(host)) return tunnel(proxy, host, port, how, done);
        const socket = secure
          ? tls.connect({ ...how, host, port, servername: how.servername || host })
          : net.connect({ host, port });
        socket.once(secure ? "secureConnect" : "connect", () => done(null, socket));
        socket.once("error", (error) => done(error));
        return undefined;
      };
      globalThis[place] = new Agent({ connect });
    }
  }
}
