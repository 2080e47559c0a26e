// Addresses, hashes and message bodies: what both the admin commands and the API renderers need.
'use strict';
const crypto = require('node:crypto');
const { Address, Cell, beginCell } = require('@ton/core');

const OP = {
  transfer: 0x0f8a7ea5,
  internalTransfer: 0x178d4519,
  transferNotification: 0x7362d09c,
  encryptedComment: 0x2167da4b,
  mint: 0x642b7d07,
  standardMint: 21,
};

const sha256 = (...parts) => {
  const hash = crypto.createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const b64 = (buffer) => Buffer.from(buffer).toString('base64');
const b64Int = (number) => Buffer.from(number.toString(16).padStart(64, '0'), 'hex').toString('base64');
const bocOf = (cell) => cell.toBoc({ idx: false, crc32: true }).toString('base64');

// Raw form with capital letters, as toncenter v3 writes it.
function raw(address) {
  return `${address.workChain}:${address.hash.toString('hex').toUpperCase()}`;
}

// Any form of address that toncenter takes; throws.
function parseAddress(text) {
  if (typeof text !== 'string') throw new Error('no address');
  const value = text.trim();
  if (value.includes(':')) return Address.parseRaw(value);
  return Address.parse(value.replaceAll('+', '-').replaceAll('/', '_'));
}

// A hash in hex or either base64, to base64; null if it is none.
function parseHash(text) {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text.replace(/^0x/, ''), 'hex').toString('base64');
  if (/^[\w+/-]{43}=$/.test(text)) return Buffer.from(text, 'base64').toString('base64');
  return null;
}

function storeText(builder, { comment, bare, encrypted, hex }) {
  if (comment !== undefined) return builder.storeUint(0, 32).storeStringTail(comment);
  if (bare !== undefined) return builder.storeStringTail(bare);
  if (encrypted !== undefined) {
    return builder.storeUint(OP.encryptedComment, 32).storeBuffer(Buffer.from(encrypted, 'hex'));
  }
  if (hex !== undefined) return builder.storeBuffer(Buffer.from(hex, 'hex'));
  return builder;
}

const hasText = (spec) => ['comment', 'bare', 'encrypted', 'hex', 'boc'].some((name) => spec[name] !== undefined);

// forward_payload:(Either Cell ^Cell) of TEP-74. `place`: inline, ref, or none: not even the bit.
function storeForwardPayload(builder, spec = {}) {
  const place = spec.place ?? (spec.boc === undefined ? 'inline' : 'ref');
  if (place === 'none') return builder;
  if (!hasText(spec)) return builder.storeBit(0);
  const payload = spec.boc === undefined ? storeText(beginCell(), spec).endCell() : Cell.fromBase64(spec.boc);
  if (place === 'ref') return builder.storeBit(1).storeRef(payload);
  return builder.storeBit(0).storeSlice(payload.beginParse());
}

// The body of a plain message: {comment} {bare} {encrypted} {hex} {boc}, or a jetton's operation:
// {op: 'transfer_notification' | 'internal_transfer' | 'transfer', amount_base, …, payload: {…}}.
function makeBody(spec = {}) {
  const query = BigInt(spec.query_id ?? 0);
  const address = (name) => (spec[name] ? parseAddress(spec[name]) : null);
  switch (spec.op) {
    case undefined:
      return spec.boc === undefined ? storeText(beginCell(), spec).endCell() : Cell.fromBase64(spec.boc);
    case 'transfer_notification': {
      const head = beginCell().storeUint(OP.transferNotification, 32).storeUint(query, 64);
      head.storeCoins(BigInt(spec.amount_base)).storeAddress(address('sender'));
      return storeForwardPayload(head, spec.payload).endCell();
    }
    case 'internal_transfer': {
      const head = beginCell().storeUint(OP.internalTransfer, 32).storeUint(query, 64);
      head.storeCoins(BigInt(spec.amount_base)).storeAddress(address('sender')).storeAddress(address('response'));
      head.storeCoins(BigInt(spec.forward_base ?? 0));
      return storeForwardPayload(head, spec.payload).endCell();
    }
    case 'transfer': {
      const head = beginCell().storeUint(OP.transfer, 32).storeUint(query, 64);
      head.storeCoins(BigInt(spec.amount_base)).storeAddress(address('to')).storeAddress(address('response'));
      head.storeMaybeRef(null).storeCoins(BigInt(spec.forward_base ?? 0));
      return storeForwardPayload(head, spec.payload).endCell();
    }
    default:
      throw new Error(`unknown op ${spec.op}`);
  }
}

// Hash of an external message in the normal form of TEP-467: it survives re-encodings.
function normalizedHash(message) {
  return beginCell()
    .storeUint(2, 2).storeUint(0, 2).storeAddress(message.info.dest).storeCoins(0)
    .storeBit(0).storeBit(1).storeRef(message.body).endCell().hash();
}

// The plain text of a comment body, or null; for `decoded` and for tonlib's msg.dataText.
function commentOf(body) {
  try {
    const slice = body.beginParse();
    if (slice.remainingBits < 32 || slice.loadUint(32) !== 0) return null;
    if (slice.remainingBits % 8) return null;
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(tail(slice)));
  } catch {
    return null; // not text: the API then leaves it undecoded
  }
}

function tail(slice) {
  const parts = [slice.loadBuffer(slice.remainingBits / 8)];
  if (slice.remainingRefs > 1) throw new Error('not a snake');
  return slice.remainingRefs ? [...parts, ...tail(slice.loadRef().beginParse())] : parts;
}

module.exports = {
  OP, sha256, b64, b64Int, bocOf, raw, parseAddress, parseHash, makeBody, storeForwardPayload,
  normalizedHash, commentOf,
};
