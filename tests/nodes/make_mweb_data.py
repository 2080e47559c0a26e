"""Makes tests/nodes/data/ltc_mweb.json: real Litecoin data with MWEB in it, for parser tests.

    python -m tests.nodes.make_mweb_data

Starts a litecoind on regtest, brings it past MWEB's activation and has every kind of transaction
in the mempool at once: an ordinary payment, a peg-in, a payment within MWEB and a peg-out. The file
holds their raw hex and that of the block which then takes them in, next to what the node itself
says they contain: txids and outputs (value in litoshi, scriptPubKey in hex). The node's keys and
coins are regtest's and worthless.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.helpers.bitcoind import COIN_BASE, BitcoinNode, base_units, coins

FILE = Path(__file__).parent / "data" / "ltc_mweb.json"


def main() -> None:
    with BitcoinNode("ltc") as node:
        node.activate_mweb()
        # A wallet with coins in MWEB only: what it pays to an ordinary address has to peg out.
        main_wallet = node.client.for_wallet("tests")
        reward_address = node.new_address()
        main_wallet.call("createwallet", "private")
        private = node.client.for_wallet("private")
        main_wallet.call("generatetoaddress", 1, reward_address)
        for _ in range(2):
            address = private.call("getnewaddress", "", "mweb")
            main_wallet.call("sendtoaddress", address, coins(4 * COIN_BASE))
        main_wallet.call("generatetoaddress", 10, reward_address)

        def send(wallet: Any, kind: str, amount_base: int) -> str:
            address = main_wallet.call("getnewaddress", "", kind)
            return str(wallet.call("sendtoaddress", address, coins(amount_base)))

        sent = {
            "ordinary": send(main_wallet, "bech32", 3 * COIN_BASE),
            "within_mweb": send(private, "mweb", 1 * COIN_BASE),
            "peg_out": send(private, "bech32", 2 * COIN_BASE),
            # More than the main wallet has within MWEB.
            "peg_in": send(main_wallet, "mweb", 20 * COIN_BASE),
        }
        mempool = {kind: _transaction(node, txid) for kind, txid in sent.items()}
        block_hash = main_wallet.call("generatetoaddress", 1, reward_address)[0]
        block = node.rpc("getblock", block_hash, 2)
        assert not node.mempool()
        data = {
            "about": "Made by 'python -m tests.nodes.make_mweb_data'; values are in litoshi.",
            "node": node.rpc("getnetworkinfo")["subversion"],
            "mempool": mempool,
            "block": {
                "hash": block_hash,
                "height": block["height"],
                "previous": block["previousblockhash"],
                "hex": node.rpc("getblock", block_hash, 0),
                "transactions": [_facts(tx) for tx in block["tx"]],
            },
        }
    FILE.write_text(json.dumps(data, indent=1) + "\n")
    print(f"{FILE}: {FILE.stat().st_size} bytes", file=sys.stderr)


def _transaction(node: BitcoinNode, txid: str) -> dict[str, Any]:
    return _facts(node.rpc("getrawtransaction", txid, True))


def _facts(tx: dict[str, Any]) -> dict[str, Any]:
    return {
        "txid": tx["txid"],
        "hex": tx["hex"],
        "inputs": [
            {"txid": vin["txid"], "vout": vin["vout"]} for vin in tx["vin"] if "txid" in vin
        ],
        "outputs": [
            {
                "n": out["n"],
                "value": base_units(out["value"]),
                "script": out["scriptPubKey"]["hex"],
                "type": out["scriptPubKey"]["type"],
            }
            for out in tx["vout"]
            if not out["ismweb"]
        ],
    }


if __name__ == "__main__":
    main()
