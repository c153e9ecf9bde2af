// Clients of Node's http, each with an Agent that keeps one connection: node client.mjs host=… (spec.py, log.py)

import http from "node:http";
import readline from "node:readline";
import { writeSync } from "node:fs";

const spec = Object.fromEntries(process.argv.slice(2).map((word) => word.split(/=(.*)/s, 2)));
const onDemand = spec.on_demand === "1";
const rate = Number(spec.rate);
const maxTimeMs = Number(spec.max_time_s) * 1000;
const postEvery = Number(spec.post_every);

const monotonic = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Errors of the kernel have an errno. "socket hang up" has the code of a reset and none: it is a FIN.
function outcomeOf(error) {
  if (error.name === "AbortError") return "timeout";
  if (error.code === "ECONNREFUSED") return "refused";
  if (error.code === "ETIMEDOUT") return "timeout";
  if (error.code === "ECONNRESET") return error.errno === undefined ? "closed" : "reset";
  return error.code === "EPIPE" ? "reset" : "other";
}

// Resolves with what is logged of the request, whatever becomes of it.
function ask(agent, client, number, method) {
  const id = `${client}.${number}`;
  const found = { client, id, method, started: monotonic(), status: 0, server: "", reused: false, port: 0, error: "" };
  return new Promise((done) => {
    const end = (outcome, more) => done({ ...found, ...more, outcome, ended: monotonic(), reused: request.reusedSocket });
    const options = { host: spec.host, port: spec.port, path: `/?${id}`, method, agent };
    if (maxTimeMs) options.signal = AbortSignal.timeout(maxTimeMs);
    const request = http.request(options, (response) => {
      let page = "";
      found.status = response.statusCode;
      response.setEncoding("utf8");
      response.on("data", (part) => (page += part));
      response.on("error", (error) => end(outcomeOf(error), { error: String(error) }));
      response.on("end", () =>
        found.status < 400 ? end("ok", { server: page.split("\n", 1)[0] }) : end("http_error"));
    });
    request.on("socket", (socket) => {
      const note = () => (found.port = socket.localPort);
      socket.connecting ? socket.once("connect", note) : note();
    });
    request.on("error", (error) => end(outcomeOf(error), { error: String(error) }));
    request.end(method === "POST" ? id : undefined);
  });
}

class Client {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #asked = 0;
  #last = Promise.resolve();

  constructor(number) {
    this.name = `${spec.client}-${number}`;
    this.delayMs = ((number - 1) / Number(spec.count) / rate) * 1000;
  }

  async ask(method) {
    this.#asked += 1;
    method ??= postEvery && this.#asked % postEvery === 0 ? "POST" : "GET";
    writeSync(1, JSON.stringify(await ask(this.#agent, this.name, this.#asked, method)) + "\n");
  }

  tell(method) {
    this.#last = this.#last.then(() => this.ask(method));
  }

  async live() {
    await pause(this.delayMs);
    for (;;) {
      const began = monotonic();
      await this.ask();
      await pause(Math.max(0, (began + 1 / rate - monotonic()) * 1000));
    }
  }
}

setTimeout(() => process.exit(), Number(spec.lifetime_s) * 1000);
const clients = Array.from({ length: Number(spec.count) }, (_, index) => new Client(index + 1));
if (onDemand) {
  readline
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
      const [method, number] = line.split(" ");
      clients[number - 1].tell(method);
    })
    .on("close", () => process.exit());
} else {
  for (const client of clients) client.live();
}
