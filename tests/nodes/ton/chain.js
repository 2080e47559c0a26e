// A chain of masterchain and shard blocks around @ton/sandbox, which itself has neither.
//
// Messages wait in a mempool until mine() runs them on the real TVM and puts their transactions
// into one masterchain block; every shard block's hash covers its transactions and its parent.
'use strict';
const { Address, Cell, Dictionary, beginCell, loadMessage, loadShardAccount } = require('@ton/core');
const { Blockchain, SmartContract } = require('@ton/sandbox');
const { b64, normalizedHash, raw, sha256 } = require('./cells');
const { STATUS, TransactionRecord, UNKNOWN_STATE, synthesize, tickTock } = require('./transactions');

const NETWORKS = {
  mainnet: {
    globalId: -239,
    zeroRoot: 'F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=',
    zeroFile: 'XplPz01CXAps5qeSWUtxcyBfdAo5zVb1N979KLSKD24=',
  },
  testnet: {
    globalId: -3,
    zeroRoot: 'gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg=',
    zeroFile: 'Z+IKwYS54DmmJmesw/nAD5DzWadnOCMzee+kdgSYDOg=',
  },
};
const MASTER_SHARD = 1n << 63n;

class Chain {
  static async create({ network, first }) {
    const chain = new Chain(network, first);
    chain.vm = await Blockchain.create({ config: 'slim' });
    return chain;
  }

  constructor(network, first) {
    this.network = NETWORKS[network];
    this.first = first;
    this.blocks = []; // masterchain blocks, from `first` on
    this.byHash = new Map(); // transaction hash in base64 → record
    this.byAccount = new Map(); // raw address → records, ascending
    this.mempool = []; // {cell, ext, root}
    this.held = []; // synthetic transactions for the next block
    this.states = new Map(); // raw address → account state after its last transaction
    this.tops = [{ shard: MASTER_SHARD, seqno: 0, root: sha256('shard', String(first)) }];
    this.shardCount = 1;
    this.shardBlocks = 1;
    this.counter = 0;
    this.pendingCache = null;
    this.libraries = Dictionary.empty(Dictionary.Keys.Buffer(32), Dictionary.Values.Cell());
  }

  get tip() {
    return this.blocks[this.blocks.length - 1];
  }

  block(seqno) {
    return this.blocks[seqno - this.first];
  }

  // --- accounts ---

  async account(address) {
    return this.vm.getContract(address);
  }

  async fund(address, amount) {
    const contract = await this.account(address);
    contract.balance = contract.balance + amount;
  }

  addLibrary(cell) {
    this.libraries.set(cell.hash(), cell);
    this.vm.libs = beginCell().storeDictDirect(this.libraries).endCell();
  }

  // --- mempool ---

  submit(cell) {
    const message = loadMessage(cell.beginParse());
    if (message.info.type !== 'external-in') throw new Error('only external messages can be sent');
    const entry = { cell, ext: b64(normalizedHash(message)), hash: b64(cell.hash()) };
    this.mempool.push(entry);
    this.pendingCache = null;
    return entry;
  }

  drop(ext) {
    const before = this.mempool.length;
    this.mempool = this.mempool.filter((entry) => entry.ext !== ext);
    this.pendingCache = null;
    return before !== this.mempool.length;
  }

  // What the mempool's messages would do now: [{ext, records}]. As on the real network, neither
  // the hash nor the logical time of such a transaction is that of the one that gets into a block.
  async pending() {
    if (this.pendingCache) return this.pendingCache;
    const saved = new Map(this.vm.storage.knownContracts().map((one) => [one, [one._account, one.lastTxTime]]));
    const { currentLt } = this.vm;
    const states = new Map(this.states);
    this.vm.currentLt += 7_000_000n;
    const found = [];
    for (const entry of this.mempool) {
      const records = await this._run(entry, this._time()).catch(() => []);
      for (const record of records) record.emulated = true;
      found.push({ ext: entry.ext, records });
    }
    for (const one of this.vm.storage.knownContracts()) {
      const [account, time] = saved.get(one) ?? [SmartContract.empty(this.vm, one.address)._account, 0];
      Object.assign(one, { _account: account, parsedAccount: undefined, lastTxTime: time });
    }
    this.vm.currentLt = currentLt;
    this.states = states;
    this.pendingCache = found;
    return found;
  }

  // --- blocks ---

  async mine(count = 1, now = undefined) {
    const made = [];
    const rejected = [];
    for (let i = 0; i < count; i += 1) {
      const queue = this.mempool.splice(0);
      const time = this._time(now);
      const records = [];
      for (const entry of queue) {
        try {
          records.push(...(await this._run(entry, time)));
        } catch (error) {
          rejected.push({ ext_hash: entry.ext, error: String(error.message).split('\n')[0] });
        }
      }
      for (const item of this.held.splice(0)) records.push(synthesize(this, item, time));
      made.push(this._append(records, time));
    }
    this.pendingCache = null;
    return { blocks: made, rejected };
  }

  _time(now = undefined) {
    return Math.max(this.tip?.genUtime ?? 0, now ?? Math.floor(Date.now() / 1000));
  }

  async _run(entry, now) {
    const records = [];
    const byTransaction = new Map();
    const steps = await this.vm.sendMessageIter(entry.cell, { now, allowParallel: true });
    for await (const tx of steps) {
      const parent = byTransaction.get(tx.parent);
      const record = await this._record(tx, tx.inMessage.info.dest);
      record.depth = parent ? parent.depth + 1 : 0;
      record.trace = records.length ? records[0].hash : record.hash;
      record.ext = entry.ext;
      byTransaction.set(tx, record);
      records.push(record);
    }
    return records;
  }

  async _record(tx, address) {
    const account = raw(address);
    const state = (await this.account(address)).account.account?.storage;
    const code = state?.state.type === 'active' ? state.state.state : {};
    const after = {
      hash: b64(tx.stateUpdate.newHash),
      balance: String(state?.balance.coins ?? 0n),
      extra_currencies: {},
      account_status: STATUS[tx.endStatus],
      frozen_hash: null,
      data_hash: code.data ? b64(code.data.hash()) : null,
      code_hash: code.code ? b64(code.code.hash()) : null,
    };
    const before = { ...(this.states.get(account) ?? UNKNOWN_STATE), hash: b64(tx.stateUpdate.oldHash) };
    before.account_status = STATUS[tx.oldStatus];
    this.states.set(account, after);
    return new TransactionRecord(tx, account, { before, after });
  }

  _append(records, genUtime) {
    const seqno = this.first + this.blocks.length;
    const master = records.filter((record) => record.account.startsWith('-1:'));
    const mine = [tickTock(this, false, genUtime), ...master, tickTock(this, true, genUtime)];
    const shards = this._shardBlocks(records.filter((record) => !record.account.startsWith('-1:')), seqno);
    const parent = this.tip?.root ?? Buffer.from(this.network.zeroRoot, 'base64');
    const root = sha256('master', parent, String(seqno), String(genUtime), ...shards.map((one) => one.root),
      ...mine.map((record) => record.hash));
    const block = {
      workchain: -1, shard: MASTER_SHARD, seqno, mcSeqno: seqno, genUtime, root, file: sha256('file', root),
      prev: [{ workchain: -1, shard: MASTER_SHARD, seqno: seqno - 1 }], txs: mine, shards,
      tops: this.tops.map((top) => ({ ...top })), afterMerge: false, afterSplit: false,
    };
    for (const record of mine) record.block = block;
    block.all = [...mine, ...shards.flatMap((one) => one.txs)].sort(byLtThenAccount);
    this._index(block);
    return block;
  }

  _shardBlocks(records, mcSeqno) {
    const split = this.tops.length < this.shardCount;
    const merge = this.tops.length > this.shardCount;
    const made = [];
    const tops = shardIds(this.shardCount).map((shard) => {
      let parents = this.tops.filter((top) => isWithin(shard, top.shard) || isWithin(top.shard, shard));
      const own = records.filter((record) => isWithin(accountShard(record.account), shard));
      for (let i = 0; i < this.shardBlocks; i += 1) {
        const txs = own.filter((record) => Math.min(record.depth, this.shardBlocks - 1) === i);
        const seqno = Math.max(...parents.map((top) => top.seqno)) + 1;
        const root = sha256('shard', String(shard), String(seqno), ...parents.map((top) => top.root),
          ...txs.map((record) => record.hash));
        const block = {
          workchain: 0, shard, seqno, mcSeqno, genUtime: null, root, file: sha256('file', root), txs,
          prev: parents.map((top) => ({ workchain: 0, shard: top.shard, seqno: top.seqno })),
          afterMerge: merge && i === 0, afterSplit: split && i === 0,
        };
        for (const record of txs) record.block = block;
        made.push(block);
        parents = [{ shard, seqno, root }];
      }
      return parents[0];
    });
    this.tops = tops;
    return made;
  }

  _index(block) {
    for (const shard of block.shards) shard.genUtime = block.genUtime;
    this.blocks.push(block);
    for (const record of block.all) {
      this.byHash.set(record.hash, record);
      const known = this.byAccount.get(record.account);
      if (known) known.push(record);
      else this.byAccount.set(record.account, [record]);
    }
  }

  // --- to disk and back ---

  dump() {
    const contracts = this.vm.storage.knownContracts().map((one) => [one.address.toRawString(), one._account]);
    const blockOut = ({ txs, shards, all, shard, root, file, prev, tops, ...rest }) => ({
      ...rest, shard: String(shard), root: b64(root), file: b64(file),
      prev: prev.map((one) => ({ ...one, shard: String(one.shard) })),
      tops: tops?.map((one) => ({ ...one, shard: String(one.shard), root: b64(one.root) })),
      txs: txs.map((record) => record.dump()),
      shards: shards?.map(blockOut),
    });
    return {
      lt: String(this.vm.currentLt), contracts, blocks: this.blocks.map(blockOut), states: [...this.states],
      tops: this.tops.map((one) => ({ ...one, shard: String(one.shard), root: b64(one.root) })),
      shardCount: this.shardCount, shardBlocks: this.shardBlocks, counter: this.counter, first: this.first,
      libraries: this.libraries.values().map((cell) => cell.toBoc().toString('base64')),
    };
  }

  async restore(saved) {
    const topIn = (one) => ({ ...one, shard: BigInt(one.shard), root: Buffer.from(one.root, 'base64') });
    const blockIn = (block) => {
      const made = {
        ...block, ...topIn(block), file: Buffer.from(block.file, 'base64'),
        prev: block.prev.map((one) => ({ ...one, shard: BigInt(one.shard) })), tops: block.tops?.map(topIn),
        txs: block.txs.map(TransactionRecord.restore),
        shards: block.shards?.map(blockIn),
      };
      for (const record of made.txs) record.block = made;
      return made;
    };
    for (const [address, account] of saved.contracts) {
      const shardAccount = loadShardAccount(Cell.fromBase64(account).beginParse());
      if (shardAccount.account) await this.vm.setShardAccount(Address.parseRaw(address), shardAccount);
    }
    for (const boc of saved.libraries) this.addLibrary(Cell.fromBase64(boc));
    this.vm.currentLt = BigInt(saved.lt);
    this.states = new Map(saved.states);
    this.tops = saved.tops.map(topIn);
    Object.assign(this, { shardCount: saved.shardCount, shardBlocks: saved.shardBlocks, counter: saved.counter });
    for (const one of saved.blocks) {
      const block = blockIn(one);
      block.all = [...block.txs, ...block.shards.flatMap((shard) => shard.txs)].sort(byLtThenAccount);
      this._index(block);
    }
  }
}

// Sorting key of toncenter: logical time, then the account's text.
function byLtThenAccount(a, b) {
  if (a.lt !== b.lt) return a.lt < b.lt ? -1 : 1;
  return a.account < b.account ? -1 : Number(a.account > b.account);
}

// The ids of 1, 2 or 4 equal shards: a prefix of the account id, then a one, then zeros.
function shardIds(count) {
  const step = (1n << 64n) / BigInt(count);
  return Array.from({ length: count }, (_, i) => step * BigInt(i) + step / 2n);
}

const accountShard = (account) => BigInt(`0x${account.split(':')[1].slice(0, 16)}`);

// Whether an id (or the first 64 bits of an account) lies in a shard.
function isWithin(id, shard) {
  const half = shard & -shard;
  return id >= shard - half && id < shard + half;
}

module.exports = { Chain, MASTER_SHARD, byLtThenAccount };
