// Transactions as the chain keeps them, and those that no TVM ran.
'use strict';
const { Address, Cell, Dictionary, beginCell, loadTransaction, storeTransaction } = require('@ton/core');
const { b64, makeBody, parseAddress, raw, sha256 } = require('./cells');

const STATUS = { uninitialized: 'uninit', active: 'active', frozen: 'frozen', 'non-existing': 'nonexist' };

// `trace` is the first transaction's hash, `ext` the external message's that all came from; `depth`
// counts the messages in between. `block` is its masterchain or shard block.
class TransactionRecord {
  constructor(tx, account, more) {
    this.parsed = tx;
    this.boc = null;
    this.account = account;
    this.hash = b64(tx.raw.hash());
    this.lt = tx.lt;
    Object.assign(this, { depth: 0, trace: this.hash, ext: null, emulated: false, block: null, json: null, ...more });
  }

  get tx() {
    return this.parsed ?? loadTransaction(Cell.fromBoc(this.boc)[0].beginParse());
  }

  // Keeps only the bytes of it: parsed cells are ten times as large, and load tests make many.
  slim() {
    this.boc ??= this.parsed.raw.toBoc();
    this.parsed = null;
  }

  dump() {
    const { account, depth, trace, ext, before, after, patch, patchV2 } = this;
    const boc = (this.boc ?? this.parsed.raw.toBoc()).toString('base64');
    return { account, depth, trace, ext, before, after, patch, patchV2, boc };
  }

  static restore({ boc, account, ...more }) {
    return new TransactionRecord(loadTransaction(Cell.fromBase64(boc).beginParse()), account, more);
  }
}

const UNKNOWN_STATE = {
  hash: null, balance: '0', extra_currencies: {}, account_status: 'nonexist', frozen_hash: null, data_hash: null,
  code_hash: null,
};
const EMPTY_STORAGE = { storageFeesCollected: 0n, storageFeesDue: undefined, statusChange: 'unchanged' };

function vmPhase(more) {
  return {
    type: 'vm', success: true, messageStateUsed: false, accountActivated: false, gasFees: 123_600n, gasUsed: 309n,
    gasLimit: 1_000_000n, gasCredit: undefined, mode: 0, exitCode: 0, exitArg: undefined, vmSteps: 5,
    vmInitStateHash: 0n, vmFinalStateHash: 0n, ...more,
  };
}

function describeSynthetic({ aborted = false, bounce_phase: bounced = false }, value) {
  const size = { cells: 0n, bits: 0n };
  return {
    type: 'generic', creditFirst: true, storagePhase: EMPTY_STORAGE,
    creditPhase: { dueFeesColelcted: undefined, credit: { coins: value } },
    computePhase: aborted ? { type: 'skipped', reason: 'no-state' } : vmPhase({}), actionPhase: undefined, aborted,
    bouncePhase: bounced ? { type: 'ok', messageSize: size, messageFees: 133_331n, forwardFees: 266_669n } : undefined,
    destroyed: false,
  };
}

// An internal message with a value, and what came of it. `item`: {to, from, amount_base, body,
// bounce, bounced, aborted, bounce_phase, patch, patch_v2}; all of it may be missing.
function synthesize(chain, item, now) {
  chain.counter += 1;
  // Three in a row have one logical time, as accounts of one shard block can have.
  if (chain.counter % 3 === 0 || item.to) chain.vm.increaseLt();
  const lt = chain.vm.lt;
  const filler = sha256('filler', String(chain.counter));
  const dest = item.to ? parseAddress(item.to) : new Address(0, filler);
  const src = item.from ? parseAddress(item.from) : new Address(0, sha256('sender', filler));
  const value = BigInt(item.amount_base ?? 1_000_000_000 + chain.counter);
  const info = {
    type: 'internal', ihrDisabled: true, bounce: item.bounce ?? false, bounced: item.bounced ?? false,
    src, dest, value: { coins: value }, ihrFee: 0n, forwardFee: 266_669n, createdLt: lt - 1n, createdAt: now,
  };
  const status = item.aborted ? 'uninitialized' : 'active';
  const tx = {
    address: BigInt(`0x${dest.hash.toString('hex')}`), lt, prevTransactionHash: 0n, prevTransactionLt: 0n, now,
    outMessagesCount: 0, oldStatus: status, endStatus: status, outMessages: Dictionary.empty(),
    inMessage: { info, body: makeBody(item.body), init: undefined },
    totalFees: { coins: 123_800n }, stateUpdate: { oldHash: filler, newHash: sha256('after', filler) },
    description: describeSynthetic(item, value),
  };
  tx.raw = beginCell().store(storeTransaction(tx)).endCell();
  const state = { ...UNKNOWN_STATE, balance: String(value), account_status: STATUS[status] };
  return new TransactionRecord(tx, raw(dest), {
    before: { ...state, hash: b64(tx.stateUpdate.oldHash) },
    after: { ...state, hash: b64(tx.stateUpdate.newHash) },
    ext: b64(sha256('external', filler)), patch: item.patch, patchV2: item.patch_v2,
  });
}

// The masterchain's own transactions, which every block has: without an inbound message.
function tickTock(chain, isTock, now) {
  chain.vm.increaseLt();
  const hash = Buffer.alloc(32, 0x33);
  const state = sha256('config', String(chain.vm.lt));
  const tx = {
    address: BigInt(`0x${hash.toString('hex')}`), lt: chain.vm.lt, prevTransactionHash: 0n, prevTransactionLt: 0n,
    now, outMessagesCount: 0, oldStatus: 'active', endStatus: 'active', outMessages: Dictionary.empty(),
    inMessage: undefined, totalFees: { coins: 0n }, stateUpdate: { oldHash: state, newHash: state },
    description: {
      type: 'tick-tock', isTock, aborted: false, destroyed: false, storagePhase: EMPTY_STORAGE,
      computePhase: vmPhase({ gasUsed: 2036n, gasLimit: 35_000_000n }), actionPhase: undefined,
    },
  };
  tx.raw = beginCell().store(storeTransaction(tx)).endCell();
  const end = { ...UNKNOWN_STATE, hash: b64(state), account_status: 'active' };
  return new TransactionRecord(tx, raw(new Address(-1, hash)), { before: end, after: end });
}

module.exports = { STATUS, TransactionRecord, UNKNOWN_STATE, synthesize, tickTock };
