"""Makes tests/nodes/data/monero/regtest.json: real Monero data, for tests of parsing and scanning.

    python -m tests.nodes.make_monero_data

Starts a monerod on regtest and has a wallet pay another one in every way that it knows: to its main
address, to an integrated one, to a subaddress, to several at once, with a sweep. The file holds the
transactions' raw hex and that of the blocks that took them in, next to what the node itself reads
in them, and what the paid wallet finds with its view key. All keys and coins are regtest's and
worthless.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.helpers.monero_wallet import MoneroWallet, Sent
from tests.helpers.monerod import MoneroNode

FILE = Path(__file__).parent / "data" / "monero" / "regtest.json"
COIN_BASE = 10**12
_SPENDABLE_BLOCKS = 10


def main() -> None:
    with MoneroNode(zmq=False) as node, MoneroWallet(node) as wallet:
        shop = wallet.create()
        shop_keys = {
            "view_key": wallet.view_key().hex(),
            "address": wallet.address(),
            "subaddresses": {f"0/{n}": wallet.address(0, n) for n in range(1, 4)},
        }
        integrated = wallet.rpc("make_integrated_address")["integrated_address"]
        wallet.create()
        payer = wallet.address(0, 1)
        wallet.fund()
        to_main, to_subs = shop_keys["address"], list(shop_keys["subaddresses"].values())
        sent = {
            "main_address": wallet.transfer({to_main: COIN_BASE}),
            "integrated_address": wallet.transfer({integrated: 2 * COIN_BASE}),
            "subaddress": wallet.transfer({to_subs[0]: 3 * COIN_BASE}),
            "two_subaddresses": wallet.transfer({to_subs[0]: 4 * COIN_BASE, to_subs[1]: 5}),
            "subaddresses_and_main": wallet.transfer(
                [
                    (to_subs[2], 6 * COIN_BASE),
                    (to_main, 7),
                    (to_subs[2], 8),
                    (payer, COIN_BASE),
                    (payer, 9 * COIN_BASE),
                ]
            ),
        }
        first = node.mine(1, to_main)
        node.mine(_SPENDABLE_BLOCKS)
        wallet.refresh()
        swept = wallet.sweep(to_subs[1], subaddr_indices=[1])
        sent |= {f"sweep_{n}": made for n, made in enumerate(swept)}
        second = node.mine(1)
        heights = [
            node.block(block_hash)["block_header"]["height"] for block_hash in first + second
        ]
        wallet.open(shop)
        wallet.refresh()
        data = {
            "about": "Made by 'python -m tests.nodes.make_monero_data'; amounts in piconero.",
            "node": node.rpc("get_info")["version"],
            "shop": shop_keys,
            "received": sorted(
                [found.txid, found.one_time_key, found.amount_base, "/".join(map(str, found.index))]
                for found in wallet.received()
            ),
            "transactions": {kind: _transaction(node, made) for kind, made in sent.items()},
            "blocks": [_block(node, height) for height in (0, 1, *heights)],
        }
    FILE.write_text(json.dumps(data, indent=1) + "\n")
    print(f"{FILE}: {FILE.stat().st_size} bytes", file=sys.stderr)


def _transaction(node: MoneroNode, sent: Sent) -> dict[str, Any]:
    entry = node.transaction(sent.txid)
    answer = node.post("/get_transactions", txs_hashes=[sent.txid], prune=True, split=True)
    pruned = answer["txs"][0]
    assert entry is not None
    assert entry["as_hex"] == sent.blob_hex
    assert sent.blob_hex.startswith(pruned["pruned_as_hex"])
    return {
        "txid": sent.txid,
        "pruned_bytes": len(pruned["pruned_as_hex"]) // 2,
        "prunable_hash": pruned["prunable_hash"],
        "hex": sent.blob_hex,
        "json": _without_proofs(json.loads(entry["as_json"])),
    }


def _block(node: MoneroNode, height: int) -> dict[str, Any]:
    block = node.block(height)
    return {
        "hash": block["block_header"]["hash"],
        "height": height,
        "miner_txid": block["miner_tx_hash"],
        "hex": block["blob"],
        "json": _without_proofs(json.loads(block["json"])),
    }


def _without_proofs(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decoded.items() if key != "rctsig_prunable"}


if __name__ == "__main__":
    main()
