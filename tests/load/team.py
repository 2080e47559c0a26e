"""The processes that drive and listen, so that no one of them is what a run waits for."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import signal
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection
from typing import Any

import orjson

_SPAWN = multiprocessing.get_context("spawn")
KEPT_FAULTS = 5
"""Of each kind, in words; all are counted."""
_END_S = 20.0


class Count(IntEnum):
    """A place on the board; each is written by one process."""

    CREATED = 0
    PAID = 1
    STREAMED = 2
    CLOSED = 3
    """Invoices that the stream told the end of."""
    SENT = 4
    """Server-sent events."""
    HOOKED = 5
    POLLED = 6
    SHOP_FAULTS = 7
    STREAM_FAULTS = 8
    EAR_FAULTS = 9


Board = Any
"""Shared integers, by Count."""


def new_board() -> Board:
    return _SPAWN.RawArray("q", len(Count))


@dataclass(frozen=True)
class Merchant:
    """One user of the daemon, with a key that opens only what is theirs."""

    number: int
    user_id: str
    api_key: str
    hook_secret: str

    @property
    def bearer(self) -> str:
        return f"Bearer {self.api_key}"


class Faults:
    """What went wrong: any at all fails the run."""

    def __init__(self, board: Board, place: Count) -> None:
        self._board = board
        self._place = place
        self.counts: Counter[str] = Counter()
        self.words: dict[str, list[str]] = {}

    def add(self, kind: str, words: object) -> None:
        self.counts[kind] += 1
        self._board[self._place] += 1
        kept = self.words.setdefault(kind, [])
        if len(kept) < KEPT_FAULTS:
            kept.append(str(words)[:500])


class Heard:
    """Which events came on one wire, by their numbers: the content's digest, and when."""

    def __init__(self) -> None:
        self.digests = array("Q")
        """0: not heard."""
        self.arrived_ns = array("q")
        self.repeats = 0

    def take(self, seq: int, digest: int, at_ns: int) -> bool:
        """Whether it is new. Raises ValueError when it was another event before."""
        missing = seq + 1 - len(self.digests)
        if missing > 0:
            self.digests.extend([0] * missing)
            self.arrived_ns.extend([0] * missing)
        known = self.digests[seq]
        if known:
            self.repeats += 1
            if known != digest:
                raise ValueError(f"event {seq} came twice, and not the same")
            return False
        self.digests[seq] = digest
        self.arrived_ns[seq] = at_ns
        return True


def digest_of(event: dict[str, Any]) -> int:
    """What an event says, as 63 bits that are not 0; `data` decoded, as JSON's rules have it."""
    names = ("id", "type", "invoice_id", "user_id", "version", "asset", "data")
    content = orjson.dumps([event[name] for name in names], option=orjson.OPT_SORT_KEYS)
    short = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(short, "big") | 1


@contextlib.contextmanager
def worker(run: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """`run(connection, *arguments)` in a process of its own, which Ctrl-C does not reach."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_quietly, args=(run, theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(_END_S)
        process.kill()
        process.join()


def _quietly(run: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The end of the pipe is how a worker learns that nobody waits for it any more.
    with contextlib.suppress(EOFError, BrokenPipeError):
        run(*arguments)
