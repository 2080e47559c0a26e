// What tests have the peer do: POST /test/<name> with JSON.
'use strict';
const { SendMode, external, internal, storeMessage, beginCell } = require('@ton/core');
const { WalletContractV4, WalletContractV5R1 } = require('@ton/ton');
const { keyPairFromSeed } = require('@ton/crypto');
const { b64, makeBody, parseAddress, raw, sha256 } = require('./cells');
const { runMethod } = require('./jettons');

const NEVER = 2 ** 32 - 1;
const FEES = 100_000_000; // attached to a jetton transfer besides what it forwards

// The wallet contract of a public key. `subwallet` is v4r2's wallet id or v5r1's subwallet number.
function walletOf({ version = 'v4r2', public_key: publicKey, subwallet, workchain = 0 }, globalId) {
  const key = Buffer.from(publicKey, 'hex');
  if (version === 'v4r2') return WalletContractV4.create({ workchain, publicKey: key, walletId: subwallet });
  if (version !== 'v5r1') throw new Error(`unknown wallet version ${version}`);
  const context = { workchain, walletVersion: 'v5r1', subwalletNumber: subwallet ?? 0 };
  return WalletContractV5R1.create({ publicKey: key, walletId: { networkGlobalId: globalId, context } });
}

function describeAddress(address, isTestnet) {
  return {
    address: raw(address),
    bounceable: address.toString({ testOnly: isTestnet }),
    non_bounceable: address.toString({ testOnly: isTestnet, bounceable: false }),
  };
}

class Admin {
  constructor(peer) {
    this.peer = peer;
    this.wallets = new Map(); // raw address → {version, seed, subwallet, next}
    this.timer = null;
  }

  get isTestnet() {
    return this.peer.chain.network.globalId === -3;
  }

  options(changes) {
    return this.peer.change(changes);
  }

  state() {
    const { chain, counts } = this.peer;
    return {
      seqno: chain.tip.seqno, root_hash: chain.tip.root.toString('hex'), first: chain.first,
      mempool: chain.mempool.map((entry) => entry.ext), held: chain.held.length,
      requests: Object.fromEntries(counts), connections: this.peer.stream.clients.size,
    };
  }

  async mirror({ options = {} }) {
    return { port: await this.peer.mirror(options) };
  }

  forget_requests() {
    this.peer.counts.clear();
    return {};
  }

  faults({ faults }) {
    this.peer.faults = faults.map((fault) => ({ times: 1, path: '', ...fault }));
    return {};
  }

  disconnect({ abruptly = false }) {
    this.peer.stream.disconnect(abruptly);
    return {};
  }

  shards({ count, blocks = 1 }) {
    if (![1, 2, 4].includes(count)) throw new Error('1, 2 or 4 shards');
    Object.assign(this.peer.chain, { shardCount: count, shardBlocks: blocks });
    return {};
  }

  // --- wallets ---

  // A wallet that the peer has the key of; it is deployed with its first payment, or by `deploy`.
  async wallet({ version = 'v4r2', name, seed, subwallet, balance_base: balance = 0, deploy = false }) {
    const secret = seed ?? sha256('wallet', String(name)).toString('hex');
    const { publicKey } = keyPairFromSeed(Buffer.from(secret, 'hex'));
    const spec = { version, subwallet, public_key: publicKey.toString('hex') };
    const contract = walletOf(spec, this.peer.chain.network.globalId);
    const address = raw(contract.address);
    if (!this.wallets.has(address)) this.wallets.set(address, { ...spec, seed: secret, next: 0 });
    this.peer.jettons.owners.add(address);
    if (balance) await this.peer.chain.fund(contract.address, BigInt(balance));
    if (deploy) await this.pay({ from: address, messages: [{ to: address, amount_base: 0 }] });
    return { ...describeAddress(contract.address, this.isTestnet), public_key: spec.public_key };
  }

  // The address that @ton/ton derives from a public key.
  address({ network, ...spec }) {
    const globalId = { mainnet: -239, testnet: -3 }[network] ?? this.peer.chain.network.globalId;
    return describeAddress(walletOf(spec, globalId).address, globalId === -3);
  }

  async balance({ address }) {
    const contract = await this.peer.chain.account(parseAddress(address));
    return { balance_base: String(contract.balance), status: contract.accountState?.type ?? 'uninit' };
  }

  // One external message with up to four payments; it waits for the next block.
  // A payment is {to, amount_base, bounce, body}; `mode` as of send_raw_message.
  async pay({ from, messages, mode = SendMode.PAY_GAS_SEPARATELY }) {
    const key = raw(parseAddress(from));
    const wallet = this.wallets.get(key);
    if (!wallet) throw new Error(`${from} is not a wallet of this peer`);
    const contract = walletOf(wallet, this.peer.chain.network.globalId);
    const { secretKey } = keyPairFromSeed(Buffer.from(wallet.seed, 'hex'));
    const seqno = Math.max(wallet.next, await this._seqno(contract.address));
    const made = messages.map(({ to, amount_base: amount, bounce = true, body }) => internal({
      to: parseAddress(to), value: BigInt(amount), bounce, body: makeBody(body),
    }));
    const content = contract.createTransfer({
      seqno, secretKey, sendMode: mode, messages: made, timeout: NEVER, authType: 'external',
    });
    wallet.next = seqno + 1;
    const message = external({ to: contract.address, init: seqno === 0 ? contract.init : undefined, body: content });
    const entry = await this.peer.submit(beginCell().store(storeMessage(message)).endCell());
    return { ext_hash: entry.ext };
  }

  async _seqno(address) {
    const done = await runMethod(this.peer.chain, address, 'seqno');
    return done.exitCode === 0 ? Number(done.stack[0].value) : 0;
  }

  // Forgets a message of the mempool, as validators do when it expires.
  drop({ ext_hash: ext }) {
    const dropped = this.peer.chain.drop(ext);
    for (const wallet of this.wallets.values()) wallet.next = 0;
    if (dropped) this.peer.invalidate(ext);
    return { dropped };
  }

  // --- jettons ---

  async jetton(spec) {
    const minter = await this.peer.jettons.create(spec);
    return { ...describeAddress(parseAddress(minter.address), this.isTestnet), kind: minter.kind };
  }

  async mint({ minter, ...spec }) {
    const found = this._minter(minter);
    const body = { boc: this.peer.jettons.mintBody(found, spec).toBoc().toString('base64') };
    return this.pay({ from: found.admin, messages: [{ to: found.address, amount_base: 2 * FEES, body }] });
  }

  async jetton_wallet({ minter, owner }) {
    return describeAddress(await this.peer.jettons.walletAddress(minter, owner), this.isTestnet);
  }

  // What a wallet application sends: `payload` as of storeForwardPayload.
  async jetton_transfer({ minter, from, to, amount_base: amount, forward_base: forward = 1, payload, response }) {
    const { jettons } = this.peer;
    jettons.owners.add(raw(parseAddress(to)));
    const place = raw(await jettons.walletAddress(minter, from));
    const body = { op: 'transfer', to, amount_base: amount, forward_base: forward, payload, response: response ?? from };
    const attached = BigInt(forward) + BigInt(FEES);
    return this.pay({ from, messages: [{ to: place, amount_base: String(attached), body }] });
  }

  async jetton_balance({ minter, owner }) {
    const place = await this.peer.jettons.walletAddress(minter, owner);
    const done = await runMethod(this.peer.chain, place, 'get_wallet_data');
    return { balance_base: done.exitCode === 0 ? String(done.stack[0].value) : '0' };
  }

  _minter(address) {
    const found = this.peer.jettons.minters.get(raw(parseAddress(address)));
    if (!found) throw new Error(`${address} is not a jetton master of this peer`);
    return found;
  }

  // --- blocks ---

  async mine({ count = 1, now }) {
    const { blocks, rejected } = await this.peer.mine(count, now);
    return {
      rejected,
      blocks: blocks.map((block) => ({
        seqno: block.seqno, root_hash: block.root.toString('hex'), tx_count: block.all.length,
      })),
    };
  }

  // Mines every so many milliseconds, with `flood` transactions of strangers; null ends it.
  auto({ interval_ms: interval = null, flood = 0 }) {
    clearInterval(this.timer);
    const mine = () => {
      this.flood({ count: flood });
      return this.peer.mine(1);
    };
    this.timer = interval === null ? null : setInterval(() => this.peer.locked(mine), interval);
    return {};
  }

  // Puts transactions into the next block that no TVM ran: `count` of strangers, then `items`.
  flood({ count = 0, items = [] }) {
    for (let i = 0; i < count; i += 1) this.peer.chain.held.push({});
    this.peer.chain.held.push(...items);
    return { held: this.peer.chain.held.length };
  }

  // The transactions of a block, as the peer itself knows them: short.
  block({ seqno }) {
    const block = this.peer.chain.block(seqno);
    return {
      seqno, root_hash: b64(block.root),
      transactions: block.all.map((record) => ({
        hash: record.hash, account: record.account, lt: String(record.lt), ext_hash: record.ext,
      })),
    };
  }

  dump() {
    return [...this.wallets];
  }

  restore(saved) {
    this.wallets = new Map(saved);
  }
}

module.exports = { Admin };
