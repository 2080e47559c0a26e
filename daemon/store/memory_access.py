"""`actors.access_book.AccessBook` in memory; each write happens as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import trio

from actors.access_book import Act, ApiKey, Claim, RecordedAct


class MemoryAccess:
    """The part of `MemoryStore` that keeps keys, acts and claims."""

    def __init__(self) -> None:
        self._api_keys: dict[str, ApiKey] = {}
        self._acts: list[RecordedAct] = []
        self._claims: dict[tuple[str, str], tuple[int, Claim]] = {}

    async def api_keys(self) -> tuple[ApiKey, ...]:
        await trio.lowlevel.checkpoint()
        found = self._api_keys.values()
        return tuple(sorted(found, key=lambda one: (one.created_at_ms, one.prefix)))

    async def api_keys_revision(self) -> tuple[int, int]:
        await trio.lowlevel.checkpoint()
        found = self._api_keys.values()
        return len(found), sum(one.revoked_at_ms is not None for one in found)

    async def add_api_key(self, key: ApiKey, act: Act) -> None:
        await trio.lowlevel.checkpoint()
        self._api_keys[key.prefix] = key
        self._record(act)

    async def revoke_api_key(self, prefix: str, act: Act) -> bool:
        await trio.lowlevel.checkpoint()
        key = self._api_keys.get(prefix)
        if key is None or key.revoked_at_ms is not None:
            return False
        self._api_keys[prefix] = replace(key, revoked_at_ms=act.at_ms)
        self._record(act)
        return True

    async def touch_api_keys(self, used_at_ms: Mapping[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        for prefix, at_ms in used_at_ms.items():
            if (key := self._api_keys.get(prefix)) is not None:
                self._api_keys[prefix] = replace(key, last_used_at_ms=at_ms)

    async def record_act(self, act: Act) -> None:
        await trio.lowlevel.checkpoint()
        self._record(act)

    def _record(self, act: Act) -> None:
        self._acts.append(RecordedAct(len(self._acts) + 1, act))

    async def acts(self, *, before: int | None, limit: int) -> tuple[RecordedAct, ...]:
        await trio.lowlevel.checkpoint()
        end = len(self._acts) if before is None else max(0, min(before - 1, len(self._acts)))
        return tuple(reversed(self._acts[max(0, end - limit) : end]))

    async def claim(
        self,
        *,
        owner: str,
        key: str,
        digest: bytes,
        resource_id: UUID,
        at_ms: int,
        forgotten_before_ms: int,
    ) -> Claim:
        await trio.lowlevel.checkpoint()
        found = self._claims.get((owner, key))
        if found is not None and found[0] >= forgotten_before_ms:
            return replace(found[1], fresh=False)
        made = Claim(resource_id, digest, fresh=True)
        self._claims[owner, key] = (at_ms, made)
        return made

    async def forget_claims(self, *, before_ms: int, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        old = sorted((at, who) for who, (at, _) in self._claims.items() if at < before_ms)[:limit]
        for _, who in old:
            del self._claims[who]
        return len(old)
