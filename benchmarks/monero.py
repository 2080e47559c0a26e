"""Scanning Monero outputs with private view keys: what one core does, and all of them together.

Everything is synthetic: transactions with view tags, as they are since August 2022, none of them
ours, and parsed already unless said otherwise. "Own key" is a transaction key for each output, the
dearest there is; in the mix most transactions have two outputs that share their key, as on mainnet.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

import trio
from nacl import bindings as sodium

from benchmarks.report import say
from daemon.drivers.monero_curve import ORDER, hash_to_scalar, subtract_base
from daemon.drivers.monero_scan import pieces, scan, view_tag
from daemon.drivers.monero_scanner import WORKER_COMMAND, Scanner
from daemon.drivers.monero_wire import ParsedTx, TxOutput, parse_tx
from daemon.drivers.monero_worker import HEAD_BYTES, content_length, frame, order
from tests.helpers.monero_blobs import busy_block

WEEK_TXS = 180_000
_TICK_S = 0.001
_OUTPUTS = (2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 16)
"""How many a transaction of the mix has."""


class _Chain:
    """Makes transactions and keys."""

    def __init__(self) -> None:
        self._dice = random.Random(18)

    def scalar(self) -> bytes:
        return self._dice.randrange(1, ORDER).to_bytes(32, "little")

    def point(self) -> bytes:
        point: bytes = sodium.crypto_scalarmult_ed25519_base_noclamp(self.scalar())
        return point

    def tx(self, outputs: int, *, tagged: bool = True) -> ParsedTx:
        made = (
            TxOutput(self.point(), 0, self._dice.randrange(256) if tagged else None)
            for _ in range(outputs)
        )
        return ParsedTx(
            txid=bytes(32),
            version=2,
            unlock_time=0,
            is_coinbase=False,
            key_images=(),
            outputs=tuple(made),
            tx_keys=(self.point(),),
            additional_keys=(),
            rct_type=6,
            ecdh=(),
            commitments=(),
        )

    def mix(self, count: int) -> list[ParsedTx]:
        return [self.tx(self._dice.choice(_OUTPUTS)) for _ in range(count)]


def run(rounds: int = 7, outputs: int = 1_200) -> dict[str, float]:
    """One core and one view key, medians; what is compared takes turns.

    The floor is libsodium's `crypto_scalarmult_ed25519_noclamp` for every transaction key, with
    the same hashes after it, and without the packing and unpacking that ours includes.
    """
    chain = _Chain()
    view_key = chain.scalar()
    own = [chain.tx(1) for _ in range(outputs)]
    mixed = chain.mix(outputs // 2)
    untagged = [chain.tx(2, tagged=False) for _ in range(outputs // 6)]
    many_keys = [chain.scalar() for _ in range(20)]
    some = own[: outputs // 20]
    runs: dict[str, Callable[[], object]] = {
        "outputs_per_s": lambda: _scan(own, [view_key]),
        "floor_outputs_per_s": lambda: _floor(own, view_key),
        "mixed_outputs_per_s": lambda: _scan(mixed, [view_key]),
        "twenty_view_keys_outputs_per_s": lambda: _scan(some, many_keys),
        "untagged_outputs_per_s": lambda: _scan(untagged, [view_key]),
    }
    counts = {
        "outputs_per_s": outputs,
        "floor_outputs_per_s": outputs,
        "mixed_outputs_per_s": sum(len(tx.outputs) for tx in mixed),
        "twenty_view_keys_outputs_per_s": len(some) * len(many_keys),
        "untagged_outputs_per_s": 2 * len(untagged),
    }
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, measured in runs.items():
            began = time.perf_counter()
            measured()
            if number:  # the first is for warming up
                took[name].append(time.perf_counter() - began)
    figures = {name: counts[name] / statistics.median(took[name]) for name in runs}
    ratios = [
        floor / ours
        for floor, ours in zip(took["floor_outputs_per_s"], took["outputs_per_s"], strict=True)
    ]
    return {"scan_to_floor": statistics.median(ratios), **figures}


def crowd(view_keys: int = 100, block_txs: int = 150, rounds: int = 7) -> dict[str, float]:
    """Many view keys on one block of the mix, with a worker process for each core.

    Against the same work in one process, taking turns, medians. Two virtual cores may be less than
    twice one, so the speed-up is held against what the machine itself gives: as many processes as
    cores, each of them with all of the work and nobody to wait for. A task that sleeps for a
    millisecond at a time notices how long the event loop kept it waiting.
    """
    chain = _Chain()
    keys = [chain.scalar() for _ in range(view_keys)]
    block = chain.mix(block_txs)
    return trio.run(_crowd, block, keys, rounds)


def week(sample_txs: int = 5_000, rounds: int = 9) -> dict[str, float]:
    """A catch-up over so many transactions as mainnet has in a week, 180 k, with one view key.

    Parsed from pruned bytes and scanned with all cores, a thousand at a time; asking a node for
    them is not included. A sample is measured, and its median extrapolated.
    """
    chain, dice = _Chain(), random.Random(18)
    say(f"makes {sample_txs} transactions")
    _, made = busy_block(dice, height=3_000_000, txs=sample_txs, new_key=chain.point)
    sample = [(each.pruned, each.prunable_hash) for each in made]
    return trio.run(_week, sample, chain.scalar(), rounds)


# --- measured -------------------------------------------------------------------------------------


def _scan(txs: Sequence[ParsedTx], view_keys: Sequence[bytes]) -> bytes:
    return scan(b"".join(piece.packed for piece in pieces(txs)), view_keys)


def _floor(txs: Sequence[ParsedTx], view_key: bytes) -> list[bytes]:
    """All for transactions with one output and one key each that has no torsion part."""
    scalar = (8 * int.from_bytes(view_key, "little") % ORDER).to_bytes(32, "little")
    found = []
    for tx in txs:
        secret = sodium.crypto_scalarmult_ed25519_noclamp(scalar, tx.tx_keys[0])
        output = tx.outputs[0]
        if view_tag(secret, b"\0") == output.view_tag:
            found.append(subtract_base(output.key, hash_to_scalar(secret + b"\0")) or b"")
    return found


async def _crowd(block: Sequence[ParsedTx], keys: Sequence[bytes], rounds: int) -> dict[str, float]:
    scanner = Scanner()
    await scanner.scan(block, keys)  # starts the workers, who prepare the keys
    workers = scanner.statistics().workers
    free = _FreeProcesses(workers, block, keys)
    alone_s, all_s, shared_s, stalls_s = [], [], [], []
    for _ in range(rounds):
        alone_s.append(free.time_s(1))
        all_s.append(free.time_s(workers))
        began = time.perf_counter()
        stalls_s.append(await _worst_stall(scanner, block, keys))
        shared_s.append(time.perf_counter() - began)
    free.close()
    await scanner.aclose()
    speedup = statistics.median(
        alone / shared for alone, shared in zip(alone_s, shared_s, strict=True)
    )
    possible = statistics.median(
        workers * alone / together for alone, together in zip(alone_s, all_s, strict=True)
    )
    return {
        "view_keys": len(keys),
        "block_outputs": sum(len(tx.outputs) for tx in block),
        "worker_processes": workers,
        "block_ms": 1000 * statistics.median(shared_s),
        "block_one_process_ms": 1000 * statistics.median(alone_s),
        "block_speedup": speedup,
        "machine_speedup": possible,
        "block_speedup_to_machine": speedup / possible,
        "loop_stall_ms_median": 1000 * statistics.median(stalls_s),
        "loop_stall_ms_worst": 1000 * max(stalls_s),
    }


class _FreeProcesses:
    """Worker processes without a scanner: each gets all the work as one order."""

    def __init__(self, count: int, block: Sequence[ParsedTx], keys: Sequence[bytes]) -> None:
        packed = b"".join(piece.packed for piece in pieces(block))
        self._order = frame(order(packed, keys))
        self._processes = [
            subprocess.Popen(WORKER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        self.time_s(count)  # they start, and prepare the keys

    def time_s(self, count: int) -> float:
        """How long until so many of them have done it at the same time."""
        began = time.perf_counter()
        pipes = [_pipes(process) for process in self._processes[:count]]
        for orders, _ in pipes:
            orders.write(self._order)
            orders.flush()
        for _, answers in pipes:
            answers.read(content_length(answers.read(HEAD_BYTES)))
        return time.perf_counter() - began

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


async def _worst_stall(scanner: Scanner, block: Sequence[ParsedTx], keys: Sequence[bytes]) -> float:
    """How long the event loop kept others waiting at worst, in seconds."""
    worst_s = 0.0

    async def tick() -> None:
        nonlocal worst_s
        while True:
            due = trio.current_time() + _TICK_S
            await trio.sleep_until(due)
            worst_s = max(worst_s, trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await scanner.scan(block, keys)
        nursery.cancel_scope.cancel()
    return worst_s


async def _week(
    sample: Sequence[tuple[bytes, bytes]], view_key: bytes, rounds: int
) -> dict[str, float]:
    scanner = Scanner()
    took_s, outputs = [], 0
    for _ in range(rounds + 1):
        began = time.perf_counter()
        outputs = 0
        for first in range(0, len(sample), 1000):
            portion = sample[first : first + 1000]
            txs = [parse_tx(blob, prunable_hash=proofs) for blob, proofs in portion]
            outputs += sum(len(tx.outputs) for tx in txs)
            await scanner.scan(txs, [view_key])
        took_s.append(time.perf_counter() - began)
    await scanner.aclose()
    rate = len(sample) / statistics.median(took_s[1:])  # the first is for warming up
    return {
        "sample_txs": len(sample),
        "sample_outputs": outputs,
        "catch_up_txs_per_s": rate,
        "week_txs": WEEK_TXS,
        "week_s": WEEK_TXS / rate,
    }
