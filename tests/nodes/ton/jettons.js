// Jetton masters of several layouts, their wallets, and get methods.
'use strict';
const { Address, Cell, Dictionary, beginCell, contractAddress } = require('@ton/core');
const { createShardAccount } = require('@ton/sandbox');
const { OP, b64, parseAddress, raw, sha256 } = require('./cells');
const published = require('./contracts.json');

const code = (name) => Cell.fromBase64(published.codes[name]);
const NO_METHOD = -13; // what a lite server answers for an account without code

// {exitCode, gasUsed, stack} of a get method, also where it fails.
async function runMethod(chain, address, method, stack = []) {
  const contract = await chain.account(address);
  if (contract.accountState?.type !== 'active') return { exitCode: NO_METHOD, gasUsed: 0, stack: [] };
  try {
    const done = await contract.get(/^\d+$/.test(method) ? Number(method) : method, stack);
    return { exitCode: done.exitCode, gasUsed: Number(done.gasUsed), stack: done.stack };
  } catch (error) {
    if (error.exitCode === undefined) throw error;
    return { exitCode: error.exitCode, gasUsed: Number(error.gasUsed), stack: [] };
  }
}

// TEP-64, on the chain: a dictionary by the names' hashes.
function contentCell(fields) {
  const values = Dictionary.empty(Dictionary.Keys.Buffer(32), Dictionary.Values.Cell());
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    values.set(sha256(name), beginCell().storeUint(0, 8).storeStringTail(String(value)).endCell());
  }
  return beginCell().storeUint(0, 8).storeDict(values).endCell();
}

class Jettons {
  constructor(chain) {
    this.chain = chain;
    this.minters = new Map(); // raw address → {address, kind, admin, content}
    this.owners = new Set(); // raw addresses that may have jetton wallets
  }

  // Puts a master on the chain as if it had always been there. `kind`: standard (TEP-74), stablecoin
  // (the layout of USDT; its wallet code is a library reference), or odd (a layout nobody knows).
  async create({ kind = 'standard', admin, decimals = 9, symbol = 'JET', name = 'Jetton', salt = 0, uri = null }) {
    const owner = parseAddress(admin);
    const content = { name, symbol, decimals, uri, image: null, salt: salt || undefined };
    let data = beginCell().storeCoins(0).storeAddress(owner);
    if (kind === 'standard') {
      data = data.storeRef(contentCell(content)).storeRef(code('JettonWalletStandard'));
    } else if (kind === 'odd') {
      data = data.storeRef(contentCell(content)).storeRef(code('JettonWalletStandard'));
    } else if (kind === 'stablecoin') {
      const wallet = code('StablecoinWallet');
      this.chain.addLibrary(wallet);
      const library = beginCell().storeUint(2, 8).storeBuffer(wallet.hash()).endCell({ exotic: true });
      const metadata = beginCell().storeStringTail(uri ?? `https://example.invalid/${salt}.json`).endCell();
      data = data.storeAddress(null).storeRef(library).storeRef(metadata);
    } else {
      throw new Error(`unknown kind of jetton: ${kind}`);
    }
    const names = { standard: 'JettonMasterStandard', stablecoin: 'JettonMasterStablecoin', odd: 'OddMinter' };
    const init = { code: code(names[kind]), data: data.endCell() };
    const address = contractAddress(0, init);
    await this.chain.vm.setShardAccount(address, createShardAccount({ address, ...init, balance: 1_000_000_000n }));
    const minter = { address: raw(address), kind, admin: raw(owner), content };
    this.minters.set(minter.address, minter);
    return minter;
  }

  // The body that has a master mint; `attached` is what the new wallet gets in TON.
  mintBody(minter, { to, amount_base: amount, forward_base: forward = 0, attached_base: attached = 50_000_000 }) {
    this.owners.add(raw(parseAddress(to)));
    const inner = beginCell().storeUint(OP.internalTransfer, 32).storeUint(0, 64).storeCoins(BigInt(amount));
    inner.storeAddress(null).storeAddress(parseAddress(minter.admin)).storeCoins(BigInt(forward)).storeBit(0);
    return beginCell().storeUint(minter.kind === 'standard' ? OP.standardMint : OP.mint, 32).storeUint(0, 64)
      .storeAddress(parseAddress(to)).storeCoins(BigInt(attached)).storeRef(inner.endCell()).endCell();
  }

  async walletAddress(master, owner) {
    const cell = beginCell().storeAddress(parseAddress(owner)).endCell();
    const done = await runMethod(this.chain, parseAddress(master), 'get_wallet_address', [{ type: 'slice', cell }]);
    if (done.exitCode !== 0) throw new Error(`get_wallet_address of ${master} ended with ${done.exitCode}`);
    return done.stack[0].cell.beginParse().loadAddress();
  }

  async describeMaster(minter) {
    const address = Address.parseRaw(minter.address);
    const { stack } = await runMethod(this.chain, address, 'get_jetton_data');
    const contract = await this.chain.account(address);
    const { state } = contract.accountState;
    const content = minter.kind === 'stablecoin' ? { decimals: '6', uri: minter.content.uri } : minter.content;
    const shown = Object.entries(content).filter(([, value]) => value !== null && value !== undefined);
    return {
      address: minter.address, total_supply: String(stack[0].value), mintable: stack[1].value !== 0n,
      admin_address: minter.admin,
      jetton_content: Object.fromEntries(shown.map(([key, value]) => [key, String(value)])),
      jetton_wallet_code_hash: b64(stack[4].cell.hash()), code_hash: b64(state.code.hash()),
      data_hash: b64(state.data.hash()), last_transaction_lt: String(contract.lastTransactionLt),
    };
  }

  // Jetton wallets that exist and whose master confirms them, as the indexer has it.
  async wallets({ address, owner, jetton }) {
    const masters = [...this.minters.keys()].filter((one) => !jetton.length || jetton.includes(one));
    const owners = owner.length ? owner : [...this.owners];
    const found = [];
    for (const master of masters) {
      for (const one of owners) {
        const place = await this.walletAddress(master, one);
        if (address.length && !address.includes(raw(place))) continue;
        const done = await runMethod(this.chain, place, 'get_wallet_data');
        if (done.exitCode !== 0) continue;
        const contract = await this.chain.account(place);
        const { state } = contract.accountState;
        found.push({
          address: raw(place), balance: String(done.stack[0].value), owner: one, jetton: master,
          last_transaction_lt: String(contract.lastTransactionLt), code_hash: b64(state.code.hash()),
          data_hash: b64(state.data.hash()),
        });
      }
    }
    return found;
  }

  dump() {
    return { minters: [...this.minters.values()], owners: [...this.owners] };
  }

  restore({ minters, owners }) {
    this.minters = new Map(minters.map((one) => [one.address, one]));
    this.owners = new Set(owners);
  }
}

module.exports = { Jettons, runMethod };
