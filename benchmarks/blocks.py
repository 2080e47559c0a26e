"""Searching a block for watched scripts, against only parsing it, and for indexes of many sizes.

The block is synthetic but shaped like a busy one: 1.1 MB, 11.8 k outputs of today's script types,
SegWit inputs and their witnesses, a few batch payouts. All figures come from one run with the
variants taking turns, so that what slows the machine slows all of them.
"""

import gc
import random
import statistics
import struct
import time
from collections.abc import Callable
from uuid import UUID

from actors.core.watch_index import WatchIndex
from daemon.drivers.bitcoin_wire import match_block, parse_block

TRANSACTIONS = 2_900
OUTPUTS = 11_800
WATCHED = (1_000, 100_000, 1_000_000)
ROUNDS = 41
_CACHE_BYTES = 24 * 1024 * 1024


def run(*, rounds: int = ROUNDS, watched: tuple[int, int, int] = WATCHED) -> dict[str, float]:
    """Measure once: sizes, medians in milliseconds, and the two ratios that are promised."""
    rng = random.Random(7)
    block, scripts = make_block(rng)
    # Invoices have P2WPKH addresses; the block has all types.
    ours = [script for script in scripts if len(script) == 22][:20]
    indexes = {count: _index(count, rng, hits=ours) for count in watched}
    variants: dict[str, Callable[[], object]] = {
        "parse_only": lambda: parse_block(block, (), with_inputs=False)
    }
    for count, index in indexes.items():
        variants[f"match_{count}"] = lambda index=index: match_block(block, index, "BTC")
    times: dict[str, list[float]] = {name: [] for name in variants}
    elsewhere = bytearray(_CACHE_BYTES)
    gc.freeze()  # as the daemon does after loading
    for _ in range(rounds):
        for name, variant in variants.items():
            bytes(elsewhere)  # what a daemon does between two blocks: the index leaves the cache
            began = time.perf_counter()
            variant()
            times[name].append(time.perf_counter() - began)
    gc.unfreeze()
    medians = {name: statistics.median(taken) * 1000 for name, taken in times.items()}
    return {
        "block_bytes": float(len(block)),
        "outputs": float(OUTPUTS),
        **{f"{name}_ms": round(median, 3) for name, median in medians.items()},
        "match_100k_to_parse": round(medians[f"match_{watched[1]}"] / medians["parse_only"], 3),
        "match_1m_to_1k": round(medians[f"match_{watched[2]}"] / medians[f"match_{watched[0]}"], 3),
    }


def make_block(rng: random.Random) -> tuple[bytes, list[bytes]]:
    """A raw block and the scripts of its outputs, in order."""
    counts = [1] * TRANSACTIONS
    for _ in range(OUTPUTS - TRANSACTIONS):
        # Some transactions pay many: the smallest of three draws favours the same ones.
        counts[min(rng.randrange(TRANSACTIONS) for _ in range(3))] += 1
    scripts = [_script(rng) for _ in range(OUTPUTS)]
    rest = iter(scripts)
    raw = b"".join(_transaction(rng, [next(rest) for _ in range(count)]) for count in counts)
    return rng.randbytes(80) + _compact(TRANSACTIONS) + raw, scripts


def _transaction(rng: random.Random, scripts: list[bytes]) -> bytes:
    inputs = rng.choice((1, 1, 1, 2, 3))
    parts = [b"\x02\0\0\0\0\x01", _compact(inputs)]
    parts += [rng.randbytes(36) + b"\0\xfd\xff\xff\xff" for _ in range(inputs)]
    parts.append(_compact(len(scripts)))
    for script in scripts:
        amount = struct.pack("<Q", rng.randrange(1, 10**9))
        parts += [amount, _compact(len(script)), script]
    for _ in range(inputs):
        parts += [b"\x02\x47", rng.randbytes(0x47), b"\x21", rng.randbytes(0x21)]
    parts.append(bytes(4))
    return b"".join(parts)


def _script(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.5:
        return b"\x00\x14" + rng.randbytes(20)  # P2WPKH
    if kind < 0.75:
        return b"\x51\x20" + rng.randbytes(32)  # P2TR
    if kind < 0.85:
        return b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xac"  # P2PKH
    if kind < 0.95:
        return b"\xa9\x14" + rng.randbytes(20) + b"\x87"  # P2SH
    return b"\x00\x20" + rng.randbytes(32)  # P2WSH


def _index(count: int, rng: random.Random, *, hits: list[bytes]) -> WatchIndex:
    index = WatchIndex()
    for script in hits:
        index.watch(script, UUID(int=rng.getrandbits(128)))
    while len(index.destinations) < count:
        index.watch(b"\x00\x14" + rng.randbytes(20), UUID(int=rng.getrandbits(128)))
    # Unconfirmed payments are waited for, so inputs are looked up as well.
    index.claim(rng.randbytes(32), (rng.randbytes(36),))
    return index


def _compact(number: int) -> bytes:
    return bytes((number,)) if number < 0xFD else b"\xfd" + struct.pack("<H", number)


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:24} {value:g}")
