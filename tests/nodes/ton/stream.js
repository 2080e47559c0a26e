// The streaming API v2 over websocket, as ton-streaming-go has it: only `transactions` is sent.
'use strict';
const { WebSocketServer } = require('ws');
const { parseAddress, raw } = require('./cells');
const { renderTransaction } = require('./v3');

const LEVELS = ['pending', 'confirmed', 'finalized'];
const TYPES = ['transactions', 'actions', 'trace', 'account_state_change', 'jettons_change'];

class Stream {
  constructor(peer) {
    this.peer = peer;
    this.clients = new Set();
    this.server = new WebSocketServer({ noServer: true });
  }

  // Takes over an HTTP connection that asked for a websocket.
  accept(request, socket, head) {
    this.server.handleUpgrade(request, socket, head, (connection) => {
      const client = { connection, accounts: new Set(), types: new Set(), level: 2, told: new Set() };
      this.clients.add(client);
      connection.on('close', () => this.clients.delete(client));
      connection.on('error', () => this.clients.delete(client));
      connection.on('message', (data) => this._receive(client, String(data)));
    });
  }

  // Ends every connection: 1001 as a server that goes away, or with no goodbye at all.
  disconnect(abruptly = false) {
    for (const { connection } of this.clients) {
      if (abruptly) connection.terminate();
      else connection.close(1001);
    }
  }

  wantsPending() {
    return [...this.clients].some((client) => client.types.has('transactions') && client.level === 0);
  }

  // Tells of one trace's transactions at one level of finality, newest first.
  tell(ext, records, finality) {
    const level = LEVELS.indexOf(finality);
    for (const client of this.clients) {
      if (!client.types.has('transactions') || client.level > level) continue;
      const own = records.filter((record) => client.accounts.has(record.account)).reverse();
      if (!own.length) continue;
      if (finality === 'finalized') client.told.delete(ext);
      else client.told.add(ext);
      this._send(client, {
        type: 'transactions', finality, trace_external_hash_norm: ext,
        transactions: own.map((record) => renderTransaction(record, finality)),
      });
    }
  }

  invalidate(ext) {
    for (const client of this.clients) {
      if (client.told.delete(ext)) this._send(client, { type: 'trace_invalidated', trace_external_hash_norm: ext });
    }
  }

  _send(client, event) {
    const copies = this.peer.options.repeat ? 2 : 1;
    for (let i = 0; i < copies; i += 1) client.connection.send(JSON.stringify(event));
  }

  _receive(client, text) {
    let request;
    try {
      request = JSON.parse(text);
    } catch (error) {
      client.connection.send(JSON.stringify({ error: `invalid request envelope: ${error.message}` }));
      return;
    }
    const id = request.id === undefined || request.id === null ? {} : { id: request.id };
    try {
      client.connection.send(JSON.stringify({ ...id, status: this._serve(client, request) }));
    } catch (error) {
      client.connection.send(JSON.stringify({ ...id, error: error.message }));
    }
  }

  _serve(client, request) {
    const accounts = () => (request.addresses ?? []).map((address) => {
      try {
        return raw(parseAddress(address));
      } catch {
        throw new Error(`invalid address: ${address}`);
      }
    });
    switch (request.operation) {
      case 'ping':
        return 'pong';
      case 'unsubscribe':
        if (!request.addresses?.length) throw new Error('addresses or trace_external_hash_norms are required');
        for (const account of accounts()) client.accounts.delete(account);
        return 'unsubscribed';
      case 'subscribe': {
        if (!request.types?.length) throw new Error('types are required');
        const unknown = request.types.find((type) => !TYPES.includes(type));
        if (unknown) throw new Error(`invalid event type: ${unknown}`);
        const wanted = accounts();
        if (!wanted.length) throw new Error('addresses are required');
        const level = LEVELS.indexOf(request.min_finality ?? LEVELS[client.level]);
        if (level < 0) throw new Error(`invalid subscribe request: unknown finality state: ${request.min_finality}`);
        const { ws_addresses: limit } = this.peer.options;
        if (limit && wanted.length > limit) {
          throw new Error(`address limit exceeded: current 0 + new ${wanted.length} > max ${limit}`);
        }
        // All of it is replaced: there is no adding to a subscription.
        Object.assign(client, { accounts: new Set(wanted), types: new Set(request.types), level });
        return 'subscribed';
      }
      default:
        throw new Error(`unknown operation: ${request.operation}`);
    }
  }
}

module.exports = { Stream };
