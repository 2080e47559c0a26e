// A TON test peer: a real TVM with blocks around it, behind the subset of toncenter's API that a
// watch-only payment daemon uses. `node server.js '{"port": 0, …}'`: prints one line of JSON with
// its port when it is ready. SIGTERM writes the state file, if there is one, and ends it.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { Chain } = require('./chain');
const { Jettons } = require('./jettons');
const { Admin } = require('./admin');
const { Stream } = require('./stream');
const v2 = require('./v2');
const v3 = require('./v3');

const DEFAULTS = {
  v3: true, v2: true, ws: true, pending: true, // what is offered
  v2_style: 'cpp', // or python
  api_key: null, // required of every request if set
  rate_per_s: null, // requests allowed in a second, then 429
  lag_v3: 0, lag_v2: 0, // blocks that the indexer, the lite server has not seen yet
  repeat: 0, // so many transactions of a page come again on the next; stream events come twice
  empty_unknown: false, // older indexers: a block they have not seen has no transactions, instead of 404
  ws_addresses: null, // how many addresses one connection may subscribe to
};
const START = { port: 0, network: 'mainnet', first: 1, state: null };

class Peer {
  static async create(start) {
    const peer = new Peer();
    const { port, network, first, state, ...options } = { ...START, ...start };
    peer.statePath = state;
    peer.options = { ...DEFAULTS };
    peer.change(options);
    peer.chain = await Chain.create({ network, first });
    peer.jettons = new Jettons(peer.chain);
    peer.stream = new Stream(peer);
    peer.admin = new Admin(peer);
    peer.views = [peer];
    if (state && fs.existsSync(state)) await peer.restore(JSON.parse(fs.readFileSync(state, 'utf8')));
    else await peer.chain.mine(1);
    return peer;
  }

  constructor() {
    this.counts = new Map(); // path → requests
    this.faults = [];
    this.allowance = { second: 0, used: 0 };
    this.queue = Promise.resolve();
  }

  // Another server of the same chain, with a port, options, counts and faults of its own.
  async mirror(changes) {
    const view = Object.create(this);
    Object.assign(view, { options: { ...DEFAULTS }, counts: new Map(), faults: [], allowance: { second: 0, used: 0 } });
    view.change(changes);
    view.stream = new Stream(view);
    view.admin = Object.assign(Object.create(this.admin), { peer: view });
    const port = await listen(view, 0);
    this.views.push(view);
    return port;
  }

  change(changes) {
    for (const name of Object.keys(changes)) {
      if (!(name in DEFAULTS)) throw new Error(`unknown option ${name}`);
    }
    return Object.assign(this.options, changes);
  }

  // Runs what changes the chain, or emulates on it, one after the other.
  locked(work) {
    const done = this.queue.then(work);
    this.queue = done.catch(() => {});
    return done;
  }

  async submit(cell) {
    const entry = this.chain.submit(cell);
    for (const { stream } of this.views.filter((view) => view.stream.wantsPending())) {
      const trace = (await this.chain.pending()).find((one) => one.ext === entry.ext);
      stream.tell(trace.ext, trace.records, 'pending');
    }
    return entry;
  }

  async mine(count, now) {
    const done = await this.chain.mine(count, now);
    const streams = this.views.map((view) => view.stream).filter((stream) => stream.clients.size);
    for (const stream of streams) {
      for (const { ext_hash: ext } of done.rejected) stream.invalidate(ext);
      for (const block of done.blocks) {
        const traces = groupBy(block.all, (one) => one.ext ?? '');
        traces.delete('');
        for (const finality of ['confirmed', 'finalized']) {
          for (const [ext, records] of traces) stream.tell(ext, records, finality);
        }
      }
    }
    return done;
  }

  invalidate(ext) {
    for (const view of this.views) view.stream.invalidate(ext);
  }

  save() {
    if (!this.statePath) return;
    const saved = { chain: this.chain.dump(), jettons: this.jettons.dump(), wallets: this.admin.dump() };
    fs.writeFileSync(`${this.statePath}.new`, JSON.stringify(saved));
    fs.renameSync(`${this.statePath}.new`, this.statePath);
  }

  async restore(saved) {
    await this.chain.restore(saved.chain);
    this.jettons.restore(saved.jettons);
    this.admin.restore(saved.wallets);
  }

  // --- HTTP ---

  async serve(request, response) {
    const url = new URL(request.url, 'http://peer');
    const body = await readBody(request);
    if (url.pathname.startsWith('/test/')) return this.serveTest(url, body, response);
    this.count(url.pathname);
    const refusal = this.refusal(request, url);
    if (refusal?.hang) return undefined;
    if (refusal?.close) return response.destroy();
    if (refusal?.delay_ms) await new Promise((resolve) => { setTimeout(resolve, refusal.delay_ms); });
    if (refusal?.status) return send(response, refusal.status, refusal.body ?? '');
    if (this.options.v3 && url.pathname.startsWith('/api/v3/')) return this.serveV3(request, url, body, response);
    if (this.options.v2 && url.pathname.startsWith('/api/v2/')) return this.serveV2(request, url, body, response);
    return send(response, 404, '404 page not found\n', 'text/plain');
  }

  count(path) {
    this.counts.set(path, (this.counts.get(path) ?? 0) + 1);
  }

  // What keeps a request from being answered: a planned fault, no key, too many requests.
  refusal(request, url) {
    const fault = this.faults.find((one) => one.times > 0 && url.pathname.includes(one.path));
    if (fault) {
      fault.times -= 1;
      return fault;
    }
    const { api_key: key, rate_per_s: rate, v2_style: style } = this.options;
    const given = request.headers['x-api-key'] ?? url.searchParams.get('api_key');
    if (key !== null && given !== key) {
      return { status: 401, body: { ok: false, code: 401, error: 'API key does not exist' } };
    }
    if (rate === null) return null;
    const second = Math.floor(Date.now() / 1000);
    if (this.allowance.second !== second) this.allowance = { second, used: 0 };
    this.allowance.used += 1;
    if (this.allowance.used <= rate) return null;
    const told = style === 'python' ? { result: 'Ratelimit exceed' } : { error: 'Ratelimit exceeded' };
    return { status: 429, body: { ok: false, ...told, code: 429 } };
  }

  async serveV3(request, url, body, response) {
    const path = url.pathname.slice('/api/v3'.length);
    try {
      const parsed = request.method === 'POST' ? parseJson(body) : null;
      const work = () => v3.handle(this, request.method, path, url.searchParams, parsed);
      return send(response, 200, await this.locked(work));
    } catch (error) {
      const status = error.status ?? 500;
      return send(response, status, { error: error.status ? error.message : `internal server error: ${error.message}` });
    }
  }

  async serveV2(request, url, body, response) {
    const isPython = this.options.v2_style === 'python';
    const extra = { '@extra': `${Date.now() / 1000}:0:0.5` };
    try {
      let method = url.pathname.slice('/api/v2/'.length);
      let params = request.method === 'POST' ? parseJson(body) : Object.fromEntries(url.searchParams);
      const rpc = method === 'jsonRPC' ? { jsonrpc: '2.0', id: params.id } : {};
      if (method === 'jsonRPC') ({ method, params = {} } = params);
      const result = await this.locked(() => v2.handle(this, method, params));
      if (isPython) return send(response, 200, { ok: true, result: { ...result, ...extra }, ...rpc });
      return send(response, 200, { ok: true, result, ...extra });
    } catch (error) {
      const status = error.status ?? 500;
      const told = { ok: false, error: error.message, code: status };
      return send(response, status, isPython ? told : { ...told, ...extra });
    }
  }

  async serveTest(url, body, response) {
    const name = url.pathname.slice('/test/'.length);
    try {
      if (!/^[a-z][a-z_]*$/.test(name) || ['dump', 'restore'].includes(name) || typeof this.admin[name] !== 'function') {
        throw new Error(`unknown command ${name}`);
      }
      const done = await this.locked(() => this.admin[name](body.length ? JSON.parse(body) : {}));
      send(response, 200, done ?? {});
    } catch (error) {
      send(response, 400, { error: String(error.stack ?? error) });
    }
  }

  upgrade(request, socket, head) {
    const url = new URL(request.url, 'http://peer');
    this.count(url.pathname);
    const refusal = this.refusal(request, url);
    if (!this.options.ws || url.pathname !== '/api/streaming/v2/ws' || refusal) {
      const status = refusal ? `${refusal.status ?? 502} Refused` : '404 Not Found';
      socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      return;
    }
    this.stream.accept(request, socket, head);
  }
}

function groupBy(items, key) {
  const found = new Map();
  for (const item of items) {
    const group = found.get(key(item));
    if (group) group.push(item);
    else found.set(key(item), [item]);
  }
  return found;
}

function parseJson(body) {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new v3.ApiError(422, error.message);
  }
}

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

function send(response, status, content, type = 'application/json') {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  const bytes = Buffer.from(text);
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': bytes.length });
  response.end(bytes);
}

// Serves a peer or a mirror of it; resolves to the port.
function listen(peer, port) {
  const server = http.createServer((request, response) => {
    peer.serve(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  server.on('upgrade', (request, socket, head) => peer.upgrade(request, socket, head));
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server.address().port));
  });
}

async function main() {
  const start = JSON.parse(process.argv[2] ?? '{}');
  const peer = await Peer.create(start);
  process.on('SIGTERM', () => peer.locked(() => {
    peer.save();
    process.exit(0);
  }));
  console.log(JSON.stringify({ port: await listen(peer, start.port ?? 0) }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
