// The API v2 of toncenter (ton-http-api: lite servers over HTTP), in its two implementations.
//
// `cpp` is what toncenter.com runs now; `python` is the older one that many providers still run:
// it knows `shards` instead of `getShards`, and tells errors of lite servers as 500 instead of 542.
'use strict';
const { Address, BitBuilder, Cell, beginCell, storeMessage, storeStateInit } = require('@ton/core');
const { MASTER_SHARD } = require('./chain');
const { b64, b64Int, bocOf, commentOf, parseAddress, parseHash, raw } = require('./cells');
const { runMethod } = require('./jettons');
const { ApiError, stackEntry } = require('./v3');

const signed = (shard) => String(BigInt.asIntN(64, shard));

function blockId(block) {
  return {
    '@type': 'ton.blockIdExt', workchain: block.workchain, shard: signed(block.shard), seqno: block.seqno,
    root_hash: b64(block.root), file_hash: b64(block.file),
  };
}

const visible = (peer) => peer.chain.blocks.slice(0, Math.max(1, peer.chain.blocks.length - peer.options.lag_v2));

function number(params, name, { required = true } = {}) {
  const value = params[name];
  if (value === undefined || value === null || value === '') {
    if (required) throw new ApiError(422, `failed to parse ${name}`);
    return null;
  }
  if (!/^-?\d+$/.test(String(value))) throw new ApiError(422, `failed to parse ${name}`);
  return BigInt(value);
}

function liteServerError(peer, message) {
  return new ApiError(peer.options.v2_style === 'python' ? 500 : 542, message);
}

function lookup(peer, params) {
  const workchain = Number(number(params, 'workchain'));
  const shard = BigInt.asUintN(64, number(params, 'shard'));
  const seqno = number(params, 'seqno', { required: false });
  const lt = number(params, 'lt', { required: false });
  const time = number(params, 'unixtime', { required: false });
  if (seqno === null && lt === null && time === null) {
    throw new ApiError(422, 'one of seqno, lt, unixtime should be specified');
  }
  const all = visible(peer).flatMap((block) => (workchain === -1 ? [block] : block.shards));
  const found = all.find((block) => block.shard === shard && (
    seqno !== null ? block.seqno === Number(seqno)
      : lt !== null ? block.txs.some((record) => record.lt >= lt) : block.genUtime >= Number(time)));
  if (!found) {
    throw liteServerError(peer, `LITE_SERVER_NOTREADY: cannot find block (${workchain},${shard.toString(16)}) `
      + `seqno=${seqno}: ltdb: block not found`);
  }
  return found;
}

const accountAddress = (address) => ({
  '@type': 'accountAddress', account_address: address instanceof Address ? address.toString() : '',
});

function renderMessage(message) {
  const { info, body, init } = message;
  const comment = commentOf(body);
  const raws = {
    '@type': 'msg.dataRaw', body: bocOf(body),
    init_state: init ? bocOf(beginCell().store(storeStateInit(init)).endCell()) : '',
  };
  const isInternal = info.type === 'internal';
  return {
    '@type': 'raw.message', hash: b64(beginCell().store(storeMessage(message)).endCell().hash()),
    source: accountAddress(info.src), destination: accountAddress(info.dest),
    value: isInternal ? String(info.value.coins) : '0', extra_currencies: [],
    fwd_fee: isInternal ? String(info.forwardFee) : '0', ihr_fee: isInternal ? String(info.ihrFee) : '0',
    created_lt: String(info.createdLt ?? 0), body_hash: b64(body.hash()),
    msg_data: comment === null ? raws : { '@type': 'msg.dataText', text: b64(Buffer.from(comment)) },
  };
}

function renderTransaction(record, style) {
  const { tx } = record;
  const storage = tx.description.storagePhase?.storageFeesCollected ?? 0n;
  const made = {
    '@type': style === 'python' ? 'raw.transaction' : 'raw.transactionExt', address: accountAddress(Address.parseRaw(record.account)),
    account: record.account, utime: tx.now, data: bocOf(tx.raw),
    transaction_id: { '@type': 'internal.transactionId', lt: String(tx.lt), hash: record.hash },
    fee: String(tx.totalFees.coins), storage_fee: String(storage), other_fee: String(tx.totalFees.coins - storage),
    out_msgs: [...tx.outMessages.values()].map(renderMessage),
  };
  if (tx.inMessage) made.in_msg = renderMessage(tx.inMessage);
  return { ...made, ...record.patchV2 };
}

// A page of a block's transactions, by account and then logical time as lite servers have them.
function transactionsOf(peer, params, render) {
  const block = lookup(peer, params);
  const count = Number(number(params, 'count', { required: false }) ?? 40n);
  if (count <= 0) throw new ApiError(422, 'count should be positive');
  if (count > 10_000) throw new ApiError(422, 'count should be less or equal 10000');
  const afterLt = number(params, 'after_lt', { required: false });
  const afterHash = params.after_hash ? parseHash(params.after_hash.split(':').at(-1)) : null;
  if (params.after_hash && afterHash === null) throw new ApiError(422, 'failed to parse after_hash');
  if ((afterLt === null) !== (afterHash === null)) {
    throw new ApiError(422, 'after_lt and after_hash should be used together');
  }
  const key = (account, lt) => account.split(':')[1] + lt.toString().padStart(20, '0');
  const after = afterHash === null ? '' : key(`:${Buffer.from(afterHash, 'base64').toString('hex').toUpperCase()}`, afterLt);
  const sorted = [...block.txs].sort((a, b) => (key(a.account, a.lt) < key(b.account, b.lt) ? -1 : 1));
  const rest = sorted.filter((record) => key(record.account, record.lt) > after);
  return {
    id: blockId(block), req_count: count, incomplete: rest.length > count,
    transactions: rest.slice(0, count).map(render),
  };
}

const methods = {
  getMasterchainInfo: (peer) => {
    const last = visible(peer).at(-1);
    const { zeroRoot, zeroFile } = peer.chain.network;
    return {
      '@type': 'blocks.masterchainInfo', last: blockId(last), state_root_hash: b64(last.file),
      init: { '@type': 'ton.blockIdExt', workchain: -1, shard: '0', seqno: 0, root_hash: zeroRoot, file_hash: zeroFile },
    };
  },
  getShards: (peer, params) => {
    const seqno = number(params, 'seqno');
    const block = lookup(peer, { workchain: -1, shard: signed(MASTER_SHARD), seqno });
    const tops = block.tops.map((top) => block.shards.find((one) => one.shard === top.shard && one.seqno === top.seqno));
    return { '@type': 'blocks.shards', shards: tops.map(blockId) };
  },
  lookupBlock: (peer, params) => blockId(lookup(peer, params)),
  getBlockHeader: (peer, params) => {
    const block = lookup(peer, params);
    const lts = block.txs.map((record) => record.lt);
    const start = lts.reduce((a, b) => (b < a ? b : a), lts[0] ?? 0n);
    return {
      '@type': 'blocks.header', id: blockId(block), global_id: peer.chain.network.globalId, version: 0,
      after_merge: block.afterMerge, after_split: block.afterSplit, before_split: false, want_merge: false,
      want_split: false, validator_list_hash_short: -1170767870, catchain_seqno: 1,
      min_ref_mc_seqno: Math.max(0, block.mcSeqno - 3), is_key_block: false, prev_key_block_seqno: 0,
      start_lt: String(start), end_lt: String(lts.reduce((a, b) => (b > a ? b : a), start) + 1n),
      gen_utime: block.genUtime, vert_seqno: 0,
      prev_blocks: block.prev.map((one) => previousId(peer, one)),
    };
  },
  getBlockTransactionsExt: (peer, params) => ({
    '@type': 'blocks.transactionsExt', ...transactionsOf(peer, params, (record) => renderTransaction(record, peer.options.v2_style)),
  }),
  getBlockTransactions: (peer, params) => ({
    '@type': 'blocks.transactions', ...transactionsOf(peer, params, (record) => ({
      '@type': 'blocks.shortTxId', mode: 135, account: record.account.toLowerCase(), lt: String(record.lt),
      hash: record.hash,
    })),
  }),
  getAddressInformation: async (peer, params) => {
    const { account, lastTransactionLt: lt, lastTransactionHash: hash } = (await peer.chain.account(address(params))).account;
    const state = account?.storage.state;
    const isActive = state?.type === 'active';
    return {
      '@type': 'raw.fullAccountState', balance: String(account?.storage.balance.coins ?? 0n), extra_currencies: [],
      code: isActive && state.state.code ? bocOf(state.state.code) : '',
      data: isActive && state.state.data ? bocOf(state.state.data) : '',
      last_transaction_id: { '@type': 'internal.transactionId', lt: String(lt), hash: b64Int(hash) },
      block_id: blockId(visible(peer).at(-1)), frozen_hash: '', sync_utime: visible(peer).at(-1).genUtime,
      state: { active: 'active', frozen: 'frozen' }[state?.type] ?? 'uninitialized',
    };
  },
  runGetMethod: async (peer, params) => {
    const stack = (params.stack ?? []).map(([type, value]) => {
      if (['num', 'int', 'number', 'integer'].includes(type)) return { type: 'int', value: BigInt(value) };
      if (type === 'tvm.Slice') return { type: 'slice', cell: Cell.fromBase64(value) };
      if (type === 'tvm.Cell') return { type: 'cell', cell: Cell.fromBase64(value) };
      throw new ApiError(542, `Unsupported stack entry type: ${type}`);
    });
    const target = address(params);
    const done = await runMethod(peer.chain, target, String(params.method), stack);
    const { lastTransactionLt: lt, lastTransactionHash: hash } = (await peer.chain.account(target)).account;
    return {
      '@type': 'smc.runResult', gas_used: done.gasUsed, stack: done.stack.map(legacyEntry), exit_code: done.exitCode,
      block_id: blockId(visible(peer).at(-1)),
      last_transaction_id: { '@type': 'internal.transactionId', lt: String(lt), hash: b64Int(hash) },
    };
  },
  sendBoc: async (peer, params) => {
    if (!params.boc) throw new ApiError(422, 'empty boc');
    await peer.submit(Cell.fromBase64(params.boc));
    return { '@type': 'ok' };
  },
};
methods.shards = methods.getShards;

function address(params) {
  try {
    return parseAddress(params.address);
  } catch {
    throw new ApiError(422, 'failed to parse address');
  }
}

function previousId(peer, { workchain, shard, seqno }) {
  const all = visible(peer).flatMap((block) => (workchain === -1 ? [block] : block.shards));
  const found = all.find((block) => block.shard === shard && block.seqno === seqno);
  if (found) return blockId(found);
  const { zeroRoot, zeroFile } = peer.chain.network;
  return { '@type': 'ton.blockIdExt', workchain, shard: signed(shard), seqno, root_hash: zeroRoot, file_hash: zeroFile };
}

function cellObject(cell) {
  const padded = new BitBuilder();
  padded.writeBits(cell.bits);
  padded.writeUint(0, (8 - (cell.bits.length % 8)) % 8);
  return { data: { b64: b64(padded.buffer()), len: cell.bits.length }, refs: cell.refs.map(cellObject), special: cell.isExotic };
}

function legacyEntry(item) {
  const { type, value } = stackEntry(item);
  if (item.cell) return ['cell', { bytes: value, object: cellObject(item.cell) }];
  return type === 'num' ? ['num', value] : [type, { '@type': `tvm.${type}`, elements: [] }];
}

async function handle(peer, name, params) {
  const hidden = peer.options.v2_style === 'python' ? 'getShards' : 'shards';
  const method = name === hidden ? undefined : methods[name];
  if (!method) throw new ApiError(404, 'Not Found');
  return method(peer, params);
}

module.exports = { handle };
