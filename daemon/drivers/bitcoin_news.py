"""From what a Bitcoin-family node says to the signals of a chain watcher; no IO.

`sequence` says what entered (A) and left (R) the mempool and which blocks were connected (C) and
disconnected (D); `rawtx` brings the bodies, but also those of transactions in blocks, so with
`sequence` a body counts when its A comes. `hashblock` says that the tip moved.
"""

from __future__ import annotations

from collections.abc import Collection

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from actors.ports import MempoolStale, TipMoved, TxArrived, TxLeft
from daemon.drivers.bitcoin_mempool import MempoolReader
from daemon.drivers.bitcoin_rpc import HASH_BYTES
from daemon.drivers.bitcoin_zmq import Published
from daemon.drivers.signal_buffer import SignalBuffer
from daemon.drivers.zmq_subscription import BadMessageError

SILENCE_S = 5.0
"""How long an announcement may come after its fact before the push channel is given up."""
LEFT_HOLD_S = 0.05
"""A node announces a replaced transaction's end before its replacement; we turn that round."""
_EARLY_LIMIT = 10_000
_COUNTED_LABELS = b"AR"


class Silence:
    """Notices a channel on which facts are not announced that the node admits when asked."""

    def __init__(self) -> None:
        self._announced = 0
        self._seen = 0
        self._since: float | None = None

    def announce(self) -> None:
        self._announced += 1

    def look(self, *, changed: bool, now: float) -> bool:
        """Whether a change came without any announcement since the last look."""
        silent = self._announced == self._seen
        self._seen = self._announced
        if not silent:
            self._since = None
        elif changed and self._since is None:
            self._since = now
        return changed and silent

    def lasts(self, now: float) -> bool:
        return self._since is not None and now - self._since > SILENCE_S

    def forget(self) -> None:
        self._since = None


class News:
    """Puts signals into `buffer`; remembers what waits for its other half."""

    def __init__(
        self,
        buffer: SignalBuffer,
        mempool: MempoolReader,
        index: WatchIndex,
        topics: Collection[str],
    ) -> None:
        self._buffer = buffer
        self._mempool = mempool
        self._index = index
        self._has_sequence = "sequence" in topics
        self._has_rawtx = "rawtx" in topics
        self.tip: bytes | None = None
        """The newest tip announced or asked for; None when a block was disconnected."""
        self.tip_silence = Silence()
        self.pool_silence = Silence()
        self._early: dict[bytes, float] = {}
        self._leaving: dict[bytes, float] = {}

    # --- facts ---

    def see_tip(self, tip: bytes) -> None:
        if tip != self.tip:
            self.tip = tip
            self._buffer.put(TipMoved())

    def arrive(self, tx: ChainTx, at: float) -> None:
        self._leaving.pop(tx.txid, None)
        self._buffer.put(TxArrived(tx, at))

    def leave(self, txid: bytes) -> None:
        self._mempool.forget(txid)
        self._buffer.put(TxLeft(txid))

    def let_leave(self, *, before: float) -> float | None:
        """Tell what left before `before`; returns when the oldest one left that is still held."""
        while self._leaving:
            txid, left_at = next(iter(self._leaving.items()))
            if left_at > before:
                return left_at
            del self._leaving[txid]
            self.leave(txid)
        return None

    def lose(self, reason: str) -> None:
        """Something was not announced: the watcher must look for itself."""
        self._early.clear()
        self._buffer.put(TipMoved())
        self._buffer.put(MempoolStale(reason))

    def is_silent(self, now: float) -> bool:
        """Whether the push channel withholds what the node has, or the bodies of what came."""
        oldest = next(iter(self._early.values()), now)
        silences = (self.tip_silence, self.pool_silence)
        return now - oldest > SILENCE_S or any(silence.lasts(now) for silence in silences)

    # --- announcements ---

    def hear(self, published: Published, at: float) -> None:
        """One notification. Raises BadMessageError, or TransientError for a garbled body."""
        if published.topic == "rawtx":
            self.pool_silence.announce()
            self._hear_body(published.body, at)
        elif published.topic == "sequence":
            self._hear_sequence(published.body, at)
        else:
            if len(published.body) != HASH_BYTES:
                raise BadMessageError(f"hashblock with {len(published.body)} bytes")
            self.tip_silence.announce()
            self.see_tip(published.body)

    def _hear_body(self, raw: bytes, at: float) -> None:
        tx, match = self._mempool.pushed(raw, self._index)
        if tx.txid is None or tx.is_coinbase:
            return
        was_early = self._early.pop(tx.txid, None) is not None
        if match is not None and (was_early or not self._has_sequence):
            self.arrive(match, at)

    def _hear_sequence(self, body: bytes, at: float) -> None:
        """32 bytes of hash, a letter, and for A and R a counter of 8 bytes that we do not need."""
        txid, label = body[:HASH_BYTES], body[HASH_BYTES : HASH_BYTES + 1]
        size = HASH_BYTES + 1 + (8 if label in _COUNTED_LABELS else 0)
        if len(body) != size or label not in b"ACDR":
            raise BadMessageError(f"sequence with {len(body)} bytes and label {label!r}")
        self.pool_silence.announce()
        match label:
            case b"C":
                self.tip_silence.announce()
                self.see_tip(txid)
            case b"D":
                self.tip_silence.announce()
                self.tip = None
                self._buffer.put(TipMoved())
            case b"A":
                self._enter(txid, at)
            case _:
                self._early.pop(txid, None)
                if txid in self._index.unconfirmed or self._mempool.concerning(txid) is not None:
                    self._leaving[txid] = at

    def _enter(self, txid: bytes, at: float) -> None:
        known = self._mempool.concerning(txid)
        if known is not None:
            self.arrive(known, at)
        elif self._has_rawtx and not self._mempool.knows(txid):
            if len(self._early) >= _EARLY_LIMIT:
                del self._early[next(iter(self._early))]
            self._early[txid] = at
