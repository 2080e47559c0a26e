// The API v3 of toncenter (the indexer), as far as a payment daemon reads it: names, value types
// and errors are those of toncenter/ton-indexer, ton-index-go.
'use strict';
const { Address, Cell } = require('@ton/core');
const { byLtThenAccount } = require('./chain');
const { b64, b64Int, bocOf, commentOf, normalizedHash, parseAddress, parseHash, raw } = require('./cells');
const { runMethod } = require('./jettons');
const { STATUS } = require('./transactions');

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 1000;
const ZERO_HASH = b64(Buffer.alloc(32));

class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// --- rendering ---

const shardText = (shard) => shard.toString(16).toUpperCase();
const text = (number) => (number === undefined || number === null ? undefined : String(number));
const blockRef = ({ workchain, shard, seqno }) => ({ workchain, shard: shardText(shard), seqno });

function renderBlock(chain, block) {
  const lts = block.txs.map((record) => record.lt);
  const start = lts.reduce((a, b) => (b < a ? b : a), BigInt(block.mcSeqno) * 1_000_000n);
  return {
    workchain: block.workchain, shard: shardText(block.shard), seqno: block.seqno, root_hash: b64(block.root),
    file_hash: b64(block.file), global_id: chain.network.globalId, version: 0, after_merge: block.afterMerge,
    before_split: false, after_split: block.afterSplit, want_merge: false, want_split: false, key_block: false,
    vert_seqno_incr: false, flags: 1, gen_utime: String(block.genUtime), start_lt: String(start),
    end_lt: String(lts.reduce((a, b) => (b > a ? b : a), start) + 1n), validator_list_hash_short: -1170767870,
    gen_catchain_seqno: 1, min_ref_mc_seqno: Math.max(0, block.mcSeqno - 3), prev_key_block_seqno: 0,
    vert_seqno: 0, master_ref_seqno: block.workchain === -1 ? 0 : block.mcSeqno - 1, rand_seed: b64(block.file),
    created_by: b64(block.root), tx_count: block.txs.length,
    masterchain_block_ref: { workchain: -1, shard: '8000000000000000', seqno: block.mcSeqno },
    prev_blocks: block.prev.map(blockRef),
  };
}

function renderContent(cell) {
  if (!cell) return null;
  const comment = commentOf(cell);
  const decoded = comment === null ? null : { '@type': 'text_comment', type: 'text_comment', comment };
  return { hash: b64(cell.hash()), body: bocOf(cell), decoded };
}

function renderMessage(message) {
  const { info, body, init } = message;
  const isInternal = info.type === 'internal';
  const slice = body.beginParse();
  const opcode = slice.remainingBits >= 32 ? `0x${slice.preloadUint(32).toString(16).padStart(8, '0')}` : null;
  const { storeMessage, storeStateInit, beginCell } = require('@ton/core');
  return {
    hash: b64(beginCell().store(storeMessage(message)).endCell().hash()),
    source: info.src instanceof Address ? raw(info.src) : null,
    destination: info.dest instanceof Address ? raw(info.dest) : null,
    value: isInternal ? String(info.value.coins) : null,
    value_extra_currencies: {},
    fwd_fee: isInternal ? String(info.forwardFee) : null,
    ihr_fee: isInternal ? String(info.ihrFee) : null,
    extra_flags: isInternal ? '0' : null,
    created_lt: info.createdLt === undefined ? null : String(info.createdLt),
    created_at: info.createdAt === undefined ? null : String(info.createdAt),
    opcode,
    decoded_opcode: null,
    ihr_disabled: isInternal ? info.ihrDisabled : null,
    bounce: isInternal ? info.bounce : null,
    bounced: isInternal ? info.bounced : null,
    import_fee: info.type === 'external-in' ? String(info.importFee) : null,
    message_content: renderContent(body),
    init_state: init ? renderContent(beginCell().store(storeStateInit(init)).endCell()) : null,
    ...(info.type === 'external-in' ? { hash_norm: b64(normalizedHash(message)) } : {}),
  };
}

const sizeOf = ({ cells, bits }) => ({ cells: String(cells), bits: String(bits) });

function renderDescription(description) {
  const { storagePhase: storage, creditPhase: credit, computePhase: compute, actionPhase: action } = description;
  const { bouncePhase: bounce } = description;
  const made = { type: description.type === 'generic' ? 'ord' : 'tick_tock', aborted: description.aborted };
  made.destroyed = description.destroyed;
  if (description.type === 'generic') made.credit_first = description.creditFirst;
  else made.is_tock = description.isTock;
  if (storage) {
    made.storage_ph = {
      storage_fees_collected: String(storage.storageFeesCollected),
      storage_fees_due: text(storage.storageFeesDue), status_change: storage.statusChange,
    };
  }
  if (credit) made.credit_ph = { credit: String(credit.credit.coins) };
  made.compute_ph = compute.type === 'skipped'
    ? { skipped: true, reason: compute.reason.replace('-', '_') }
    : {
      skipped: false, success: compute.success, msg_state_used: compute.messageStateUsed,
      account_activated: compute.accountActivated, gas_fees: String(compute.gasFees),
      gas_used: String(compute.gasUsed), gas_limit: String(compute.gasLimit), gas_credit: text(compute.gasCredit),
      mode: compute.mode, exit_code: compute.exitCode, exit_arg: compute.exitArg ?? undefined,
      vm_steps: compute.vmSteps, vm_init_state_hash: b64Int(compute.vmInitStateHash),
      vm_final_state_hash: b64Int(compute.vmFinalStateHash),
    };
  if (action) {
    made.action = {
      success: action.success, valid: action.valid, no_funds: action.noFunds, status_change: action.statusChange,
      total_fwd_fees: text(action.totalFwdFees), total_action_fees: text(action.totalActionFees),
      result_code: action.resultCode, result_arg: action.resultArg ?? undefined, tot_actions: action.totalActions,
      spec_actions: action.specActions, skipped_actions: action.skippedActions,
      msgs_created: action.messagesCreated, action_list_hash: b64Int(action.actionListHash),
      tot_msg_size: sizeOf(action.totalMessageSize),
    };
  }
  if (bounce) made.bounce = renderBounce(bounce);
  return made;
}

function renderBounce(bounce) {
  if (bounce.type === 'negative-funds') return { type: 'negfunds' };
  const msg_size = sizeOf(bounce.messageSize);
  if (bounce.type === 'no-funds') return { type: 'nofunds', msg_size, req_fwd_fees: String(bounce.requiredForwardFees) };
  return { type: 'ok', msg_size, msg_fees: String(bounce.messageFees), fwd_fees: String(bounce.forwardFees) };
}

function renderTransaction(record, finality = 'finalized') {
  const { tx, block } = record;
  const outs = [...tx.outMessages.values()].sort((a, b) => Number((a.info.createdLt ?? 0n) - (b.info.createdLt ?? 0n)));
  return {
    account: record.account, hash: record.hash, lt: String(tx.lt), now: tx.now, mc_block_seqno: block?.mcSeqno ?? 0,
    trace_id: record.trace, ...(record.ext ? { trace_external_hash: record.ext } : {}),
    prev_trans_hash: b64Int(tx.prevTransactionHash), prev_trans_lt: String(tx.prevTransactionLt),
    orig_status: STATUS[tx.oldStatus], end_status: STATUS[tx.endStatus], total_fees: String(tx.totalFees.coins),
    total_fees_extra_currencies: {}, description: renderDescription(tx.description),
    block_ref: block ? blockRef(block) : { workchain: 0, shard: '8000000000000000', seqno: 0 },
    in_msg: tx.inMessage ? renderMessage(tx.inMessage) : null, out_msgs: outs.map(renderMessage),
    account_state_before: record.before, account_state_after: record.after, emulated: record.emulated, finality,
  };
}

// Objects are merged, everything else replaces.
function merge(into, patch) {
  for (const [name, value] of Object.entries(patch)) {
    const both = value && typeof value === 'object' && !Array.isArray(value) && into[name];
    into[name] = both ? merge(into[name], value) : value;
  }
  return into;
}

// One transaction as JSON text, rendered once: many requests ask for the same.
function transactionText(record) {
  if (!record.json) {
    const made = renderTransaction(record);
    record.json = JSON.stringify(record.patch ? merge(made, structuredClone(record.patch)) : made);
    record.parties = [record.account, ...[made.in_msg, ...made.out_msgs].flatMap((one) => (
      one ? [one.source, one.destination] : [])).filter(Boolean)];
    record.slim();
  }
  return record.json;
}

const bookCache = new Map();

function bookEntry(account, isTestnet) {
  const key = `${account}${isTestnet}`;
  if (!bookCache.has(key)) {
    const friendly = Address.parseRaw(account).toString({ testOnly: isTestnet });
    const row = JSON.stringify({ user_friendly: friendly, domain: null, interfaces: null });
    if (bookCache.size > 100_000) bookCache.clear();
    bookCache.set(key, `${JSON.stringify(account)}:${row}`);
  }
  return bookCache.get(key);
}

function transactionsText(records, chain) {
  const texts = records.map(transactionText);
  const accounts = new Set(records.flatMap((record) => record.parties));
  const book = [...accounts].map((account) => bookEntry(account, chain.network.globalId === -3));
  return `{"transactions":[${texts.join(',')}],"address_book":{${book.join(',')}}}`;
}

// --- requests ---

// Numbers that cannot be read are 422, as the real one's query parser has it.
function integer(query, name) {
  const value = query.get(name);
  if (value === null || value === '') return null;
  if (!/^-?\d+$/.test(value)) {
    throw new ApiError(422, `failed to decode: schema: error converting value for "${name}"`);
  }
  return Number(value);
}

function many(query, name, parse) {
  return query.getAll(name).map((value) => {
    try {
      return parse(value);
    } catch {
      throw new ApiError(422, `failed to decode: schema: error converting value for index 0 of "${name}"`);
    }
  });
}

const accounts = (query, name) => many(query, name, (value) => raw(parseAddress(value)));

function hashes(query, name) {
  return many(query, name, (value) => {
    const found = parseHash(value);
    if (found === null) throw new Error('no hash');
    return found;
  });
}

function page(query, items, overlap = 0) {
  const limit = Math.max(1, integer(query, 'limit') ?? DEFAULT_LIMIT);
  // Meant to be 422 there too, but every failure to build a query is told as 500.
  if (limit > MAX_LIMIT) throw new ApiError(500, `limit is not allowed: ${limit} > ${MAX_LIMIT}`);
  const offset = Math.max(0, integer(query, 'offset') ?? 0);
  return items.slice(offset ? Math.max(0, offset - overlap) : 0, offset + limit);
}

function isAscending(query, byDefault = 'desc') {
  const sort = (query.get('sort') ?? byDefault).toLowerCase();
  if (!['asc', 'a', 'desc', 'd'].includes(sort)) throw new ApiError(500, 'wrong value for sort parameter');
  return sort.startsWith('a');
}

// Of equal logical times the account ascends in either direction.
function ordered(records, ascending) {
  if (ascending) return records;
  return [...records].sort((a, b) => {
    if (a.lt !== b.lt) return a.lt < b.lt ? 1 : -1;
    return a.account < b.account ? -1 : Number(a.account > b.account);
  });
}

// What the indexer has seen: with a lag, not yet the last blocks.
const visible = (peer) => peer.chain.blocks.slice(0, Math.max(1, peer.chain.blocks.length - peer.options.lag_v3));

const routes = {
  '/masterchainInfo': (peer) => {
    const blocks = visible(peer);
    return { last: renderBlock(peer.chain, blocks[blocks.length - 1]), first: renderBlock(peer.chain, blocks[0]) };
  },
  '/blocks': (peer, query) => {
    const wanted = {
      workchain: integer(query, 'workchain'), seqno: integer(query, 'seqno'), mcSeqno: integer(query, 'mc_seqno'),
      shard: query.get('shard') === null ? null : BigInt.asUintN(64, BigInt(`0x${query.get('shard').replace(/^0x/, '')}`)),
      root: hashes(query, 'root_hash')[0] ?? null,
      start: integer(query, 'start_utime'), end: integer(query, 'end_utime'),
    };
    const found = visible(peer).flatMap((block) => [block, ...block.shards]).filter((block) => (
      (wanted.workchain === null || block.workchain === wanted.workchain)
      && (wanted.shard === null || block.shard === wanted.shard)
      && (wanted.seqno === null || block.seqno === wanted.seqno)
      && (wanted.mcSeqno === null || block.mcSeqno === wanted.mcSeqno)
      && (wanted.root === null || b64(block.root) === wanted.root)
      && (wanted.start === null || block.genUtime >= wanted.start) && (wanted.end === null || block.genUtime <= wanted.end)
    ));
    if (!isAscending(query)) found.reverse();
    return { blocks: page(query, found).map((block) => renderBlock(peer.chain, block)) };
  },
  '/masterchainBlockShards': (peer, query) => {
    const block = visible(peer)[integer(query, 'seqno') - peer.chain.first];
    if (!block) throw new ApiError(404, 'blocks not found');
    return { blocks: page(query, [block, ...block.shards]).map((one) => renderBlock(peer.chain, one)) };
  },
  '/transactionsByMasterchainBlock': (peer, query) => {
    const seqno = integer(query, 'seqno') ?? 0;
    const block = visible(peer)[seqno - peer.chain.first];
    if (!block && !peer.options.empty_unknown) throw new ApiError(404, `masterchain block ${seqno} not found`);
    const records = ordered(block ? block.all : [], isAscending(query));
    return transactionsText(page(query, records, peer.options.repeat), peer.chain);
  },
  '/transactions': (peer, query) => {
    const { chain } = peer;
    const wanted = {
      account: accounts(query, 'account'), hash: hashes(query, 'hash'), lt: query.get('lt'),
      mc: integer(query, 'mc_seqno'), startLt: query.get('start_lt'), endLt: query.get('end_lt'),
      start: integer(query, 'start_utime'), end: integer(query, 'end_utime'), seqno: integer(query, 'seqno'),
    };
    const last = visible(peer).at(-1).seqno;
    if (wanted.mc !== null && !visible(peer)[wanted.mc - chain.first]) {
      throw new ApiError(404, `masterchain block ${wanted.mc} not found`);
    }
    let records;
    if (wanted.hash.length) records = wanted.hash.map((hash) => chain.byHash.get(hash)).filter(Boolean);
    else if (wanted.account.length) records = wanted.account.flatMap((one) => chain.byAccount.get(one) ?? []).sort(byLtThenAccount);
    else records = visible(peer).flatMap((block) => (wanted.mc === null || block.seqno === wanted.mc ? block.all : []));
    records = records.filter((one) => (
      one.block.mcSeqno <= last && (wanted.mc === null || one.block.mcSeqno === wanted.mc)
      && (!wanted.account.length || wanted.account.includes(one.account))
      && (wanted.lt === null || String(one.lt) === wanted.lt)
      && (wanted.startLt === null || one.lt >= BigInt(wanted.startLt))
      && (wanted.endLt === null || one.lt <= BigInt(wanted.endLt))
      && (wanted.start === null || one.tx.now >= wanted.start) && (wanted.end === null || one.tx.now <= wanted.end)
      && (wanted.seqno === null || one.block.seqno === wanted.seqno)
    ));
    return transactionsText(page(query, ordered(records, isAscending(query)), peer.options.repeat), chain);
  },
  '/pendingTransactions': async (peer, query) => {
    const wanted = accounts(query, 'account');
    if (!wanted.length) throw new ApiError(422, 'at least 1 account address required');
    if (!peer.options.pending) throw new ApiError(500, 'emulatedTracesRepository is not initialized');
    const records = (await peer.chain.pending()).flatMap((trace) => trace.records);
    const found = records.filter((record) => wanted.includes(record.account));
    if (!found.length) throw new ApiError(404, 'emulated traces not found');
    return { transactions: found.map((record) => renderTransaction(record, 'pending')), address_book: {} };
  },
  '/addressInformation': async (peer, query) => {
    const [wanted] = many(query, 'address', parseAddress);
    if (!wanted) throw new ApiError(401, 'address of account is required');
    const { account, lastTransactionLt: lt, lastTransactionHash: hash } = (await peer.chain.account(wanted)).account;
    const state = account?.storage.state;
    return {
      balance: String(account?.storage.balance.coins ?? 0n),
      code: state?.type === 'active' && state.state.code ? bocOf(state.state.code) : null,
      data: state?.type === 'active' && state.state.data ? bocOf(state.state.data) : null,
      last_transaction_lt: String(lt), last_transaction_hash: hash ? b64Int(hash) : ZERO_HASH, frozen_hash: null,
      status: state?.type ?? 'uninit',
    };
  },
  '/jetton/masters': async (peer, query) => {
    const wanted = accounts(query, 'address');
    const found = [...peer.jettons.minters.values()].filter((one) => !wanted.length || wanted.includes(one.address));
    const masters = await Promise.all(page(query, found).map((one) => peer.jettons.describeMaster(one)));
    return { jetton_masters: masters, address_book: {}, metadata: {} };
  },
  '/jetton/wallets': async (peer, query) => {
    const [address, owner, jetton] = ['address', 'owner_address', 'jetton_address'].map((name) => accounts(query, name));
    const found = await peer.jettons.wallets({ address, owner, jetton });
    return { jetton_wallets: page(query, found), address_book: {}, metadata: {} };
  },
};

const postRoutes = {
  '/runGetMethod': async (peer, body) => {
    if (!body.address) throw new ApiError(401, 'address is required');
    if (!body.method) throw new ApiError(401, 'method is required');
    const stack = (body.stack ?? []).map(({ type, value }) => {
      if (type === 'num') return { type: 'int', value: BigInt(value) };
      if (type === 'cell' || type === 'slice') return { type, cell: Cell.fromBase64(value) };
      throw new ApiError(500, `unsupported stack parameter type: ${type}`);
    });
    let address;
    try {
      address = parseAddress(body.address);
    } catch {
      throw new ApiError(422, 'failed to parse address');
    }
    const done = await runMethod(peer.chain, address, body.method, stack);
    return { gas_used: done.gasUsed, exit_code: done.exitCode, stack: done.stack.map(stackEntry) };
  },
  '/message': async (peer, body) => {
    const entry = await peer.submit(Cell.fromBase64(body.boc));
    return { message_hash: entry.hash, message_hash_norm: entry.ext };
  },
};

// A slice comes out as a cell: the v2 API behind it makes no difference.
function stackEntry(item) {
  if (item.type === 'int') {
    const hex = (item.value < 0n ? -item.value : item.value).toString(16);
    return { type: 'num', value: `${item.value < 0n ? '-' : ''}0x${hex}` };
  }
  if (item.cell) return { type: 'cell', value: bocOf(item.cell) };
  if (item.type === 'tuple') return { type: 'tuple', value: item.items.map(stackEntry) };
  return { type: 'list', value: [] };
}

async function handle(peer, method, path, query, body) {
  const route = method === 'POST' ? postRoutes[path] : routes[path];
  if (!route) throw new ApiError(404, 'not found');
  return route(peer, method === 'POST' ? body : query);
}

module.exports = { ApiError, handle, renderTransaction, stackEntry };
