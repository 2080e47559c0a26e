"""The private view keys that a chain is scanned with."""

from __future__ import annotations


class ViewKeys:
    """Distinct scalars, 32 bytes each, in the order in which they came; none ever leaves.

    One for each account that has given out an address, so it is as large as the users are many.
    """

    __slots__ = ("_keys", "_seen")

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._keys: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<ViewKeys: {len(self._keys)}>"

    def add(self, *keys: bytes) -> None:
        """Scan with these as well from now on."""
        fresh = [key for key in dict.fromkeys(keys) if key not in self._seen]
        assert all(len(key) == 32 for key in fresh)
        if fresh:
            self._seen.update(fresh)
            self._keys += tuple(fresh)

    def keys(self) -> tuple[bytes, ...]:
        """All of them: the same object until one is added, and what was there stays in place."""
        return self._keys
