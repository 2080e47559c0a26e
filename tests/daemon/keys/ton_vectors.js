// Writes what @ton/ton says of wallets: addresses by public key, contract, network and number.
"use strict";
const { WalletContractV4, WalletContractV5R1 } = require("@ton/ton");
const { createHash } = require("crypto");

const { keyPairFromSeed } = require("@ton/crypto");

const NUMBERS = [0, 1, 2, 127, 32767, 32768, 698983191, 2147483647];
const NETWORKS = { mainnet: -239, testnet: -3 };
const MAX_CLIENT_NUMBER = 32767;

function wallet(version, publicKey, number, networkGlobalId) {
  if (version === "v4r2") {
    return WalletContractV4.create({ workchain: 0, publicKey, walletId: 698983191 + number });
  }
  const context =
    number > MAX_CLIENT_NUMBER
      ? number
      : { workchain: 0, walletVersion: "v5r1", subwalletNumber: number };
  return WalletContractV5R1.create({ publicKey, walletId: { networkGlobalId, context } });
}

const found = { codes: {}, wallets: [] };
for (const name of ["first", "second", "third"]) {
  const { publicKey } = keyPairFromSeed(createHash("sha256").update(name).digest());
  for (const version of ["v4r2", "v5r1"]) {
    for (const [network, globalId] of Object.entries(NETWORKS)) {
      for (const number of NUMBERS) {
        const { address, init } = wallet(version, publicKey, number, globalId);
        found.codes[version] = init.code.hash().toString("hex");
        found.wallets.push({
          key: publicKey.toString("hex"),
          wallet: version,
          network,
          number,
          raw: address.toRawString(),
          friendly: address.toString({ bounceable: false, testOnly: network === "testnet" }),
        });
      }
    }
  }
}
process.stdout.write(JSON.stringify(found, null, 1) + "\n");
