"""TON keys, and their wallets as @ton/ton has them (ton_vectors.js wrote the file).

NODE_PATH=.cache/nodes/ton/node_modules node tests/daemon/keys/ton_vectors.js
"""

import json
from hashlib import sha256
from pathlib import Path

from nacl.signing import SigningKey

SCRIPT = Path(__file__).with_name("ton_vectors.js")
FILE = SCRIPT.with_suffix(".json")
VECTORS = json.loads(FILE.read_text())
SEED = sha256(b"first").digest()
KEY = bytes(SigningKey(SEED).verify_key).hex()
OTHER = bytes(SigningKey(sha256(b"second").digest()).verify_key).hex()


def row_of(wallet, network, number, key=KEY):
    [row] = [
        row
        for row in VECTORS["wallets"]
        if (row["key"], row["wallet"], row["network"], row["number"])
        == (key, wallet, network, number)
    ]
    return row


def friendly_of(wallet, network, number, key=KEY):
    return row_of(wallet, network, number, key)["friendly"]
