"""Which transactions were looked at already, within a bound of memory."""

from __future__ import annotations


class TxidSet:
    """A set that forgets: it holds the newest `limit` / 2 at least and `limit` at most."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, txid: bytes) -> None:
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = set()
        self._young.add(txid)

    def discard(self, txid: bytes) -> None:
        self._young.discard(txid)
        self._old.discard(txid)

    def keep_only(self, txids: set[bytes]) -> None:
        self._young &= txids
        self._old &= txids

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()

    def __contains__(self, txid: bytes) -> bool:
        return txid in self._young or txid in self._old

    def __len__(self) -> int:
        """At most; the generations may share some."""
        return len(self._young) + len(self._old)
