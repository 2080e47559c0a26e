"""Which outputs are ours: found by the private view keys, named by the index, proved by the sums.

A destination is a subaddress's public spend key D and, after it, the public view key A of its
wallet: 64 bytes. D alone would not do. Whoever knows one view key that we scan with can aim an
output found by it at any D, also at one of another wallet, which could neither see nor spend it.

Three steps. Scanning tries every view key on every output; it is dear, so it is done ahead, and
again only for view keys that came later. Its candidates are then looked up in the index, at the
moment when a transaction is handed over. What is found counts only if its amount is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from nacl import bindings as sodium

from actors.core.chain_events import ChainTx, OutPoint, Output, RefusedOutput
from actors.core.watch_index import WatchIndex
from actors.ports import Log
from daemon.drivers.monero_amounts import prove
from daemon.drivers.monero_scan import Candidate
from daemon.drivers.monero_scanner import Scanner
from daemon.drivers.monero_wire import ParsedTx

ViewKeys = Callable[[], Sequence[bytes]]
"""The distinct private view keys to scan with, 32 bytes each; there may be more at every call."""

FIRST_UNLOCK_TIMESTAMP = 500_000_000
"""An `unlock_time` below is a height (monerod, CRYPTONOTE_MAX_BLOCK_NUMBER)."""
UNLOCK_SLACK_S = 120
"""monerod lets money go that long before its time (CRYPTONOTE_LOCKED_TX_ALLOWED_DELTA_SECONDS)."""
UNPROVED = "its commitment does not match the amount that it names"


class Sought:
    """A transaction, and which of its outputs may be ours, by the view keys tried so far."""

    __slots__ = ("candidates", "tx")

    def __init__(self, tx: ParsedTx) -> None:
        self.tx = tx
        self.candidates: list[tuple[bytes, Candidate]] = []
        """Each with its destination."""


class Search:
    """Scans and matches for one chain."""

    def __init__(self, scanner: Scanner, view_keys: ViewKeys, *, asset: str, log: Log) -> None:
        self._scanner = scanner
        self._view_keys = view_keys
        self._asset = asset
        self._log = log
        self._listed: Sequence[bytes] = ()
        self._held: frozenset[bytes] = frozenset()

    def view_keys(self) -> frozenset[bytes]:
        """The view keys to scan with at this moment; the same object until there are more."""
        listed = self._view_keys()
        if listed is not self._listed or len(listed) != len(self._held):
            self._listed, self._held = listed, frozenset(listed)
        return self._held

    async def scan(self, sought: Sequence[Sought], view_keys: Iterable[bytes]) -> None:
        """Add the candidates for these view keys, which have not been tried on them before."""
        keys = sorted(view_keys)
        if not keys or not sought:
            return
        found = await self._scanner.scan([one.tx for one in sought], keys)
        public_keys = [_public_key(key) for key in keys]
        for candidate in found:
            destination = candidate.destination + public_keys[candidate.view_key]
            sought[candidate.tx].candidates.append((destination, candidate))

    def match(self, sought: Sought, index: WatchIndex) -> ChainTx | None:
        """What of the transaction concerns us; None when nothing does.

        An output of which no candidate's amount is proved is refused, and said so.
        """
        tx = sought.tx
        paid: dict[int, Output] = {}
        refused: dict[int, RefusedOutput] = {}
        for destination, candidate in sought.candidates:
            n = candidate.output
            if destination not in index.destinations or n in paid:
                continue
            amount_base = prove(tx, n, candidate.scalar_secret)
            outpoint = OutPoint(tx.txid, n)
            if amount_base is None:
                refused[n] = RefusedOutput(outpoint, destination, self._asset, UNPROVED)
                continue
            unlock_height, unlock_ms = unlock_of(tx.unlock_time)
            paid[n] = Output(
                outpoint,
                destination,
                amount_base,
                self._asset,
                one_time_key=tx.outputs[n].key,
                unlock_height=unlock_height,
                unlock_ms=unlock_ms,
            )
        alarms = tuple(refused[n] for n in sorted(refused) if n not in paid)
        for alarm in alarms:
            self._log.error(
                "refused an output to an address of ours: somebody pretends to pay",
                outpoint=str(alarm.outpoint),
                reason=alarm.reason,
            )
        if not (
            paid or alarms or tx.txid in index.unconfirmed
        ) and index.conflicts.keys().isdisjoint(tx.key_images):
            return None
        outputs = tuple(paid[n] for n in sorted(paid))
        return ChainTx(tx.txid, outputs, tx.key_images, refused=alarms)


@lru_cache(maxsize=16_384)
def _public_key(view_key: bytes) -> bytes:
    key: bytes = sodium.crypto_scalarmult_ed25519_base_noclamp(view_key)
    return key


def unlock_of(unlock_time: int) -> tuple[int | None, int | None]:
    """(lowest tip, Unix millisecond) from which the money may be moved; at most one is not None.

    As monerod's is_tx_spendtime_unlocked has it: a height is compared with the next block's.
    """
    if unlock_time == 0:
        return None, None
    if unlock_time < FIRST_UNLOCK_TIMESTAMP:
        return unlock_time - 1, None
    return None, (unlock_time - UNLOCK_SLACK_S) * 1000
