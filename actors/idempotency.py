"""Requests that may be sent twice: the same key and the same input give the same answer.

The first use of a key records, before anything else happens, the id of what is going to be made.
Whoever completes the request, now or after a crash, makes the thing under that id, so there can
never be two; and the answer is told from the thing as it was made, so nothing else is kept. Who
comes while the first is at work waits for it here; who comes to another process completes the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID, uuid4

import trio

from actors.access_book import AccessBook, Claim
from actors.ports import Log, PersistentError, TransientError, WallClock
from actors.turns import Turns

KEPT_MS = 24 * 3600 * 1000
MAX_KEY = 200
"""Characters of a key."""
WAIT_S = 10.0
"""For the request that came first."""
MAX_AT_WORK = 1000
"""Different keys at the same time; a further one is told to come again."""
CLEAN_EVERY_S = 600.0
CLEAN_AT_ONCE = 1000
"""Claims forgotten in one transaction."""


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key was used with another input."""

    key: str


@dataclass(frozen=True, slots=True)
class StillAtWork:
    """The first request with this key is not finished."""

    key: str


@dataclass(frozen=True, slots=True)
class KeyMalformed:
    """This cannot be an idempotency key."""

    reason: str


IdempotencyRefusal = KeyReused | StillAtWork | KeyMalformed


class Idempotency:
    """Gives each key its id, and one request at a time the right to use it."""

    def __init__(
        self,
        book: AccessBook,
        *,
        clock: WallClock,
        log: Log,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._book = book
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._turns: Turns[tuple[str, str]] = Turns()

    @asynccontextmanager
    async def once(
        self,
        *,
        owner: str,
        key: str,
        operation: str,
        given: Mapping[str, object],
        resource_id: UUID | None = None,
    ) -> AsyncIterator[Claim | IdempotencyRefusal]:
        """Hold the key for the length of the block, which makes the thing under the claim's id.

        A claim that is not `fresh` may have been completed before: look for the thing first. Keys
        belong to their `owner` (who calls). `given` is the input, normalised: what means the same
        must have the same `repr`. `resource_id` is the id where the caller may choose it. The block
        should not be cancelled half-way (see `trio.CancelScope.shield`).

        Raises TransientError or PersistentError as the store does.
        """
        reason = malformed(key)
        if reason is not None:
            yield KeyMalformed(reason)
            return
        async with self._turns.turn((owner, key), wait_s=WAIT_S, most=MAX_AT_WORK) as ours:
            if not ours:
                yield StillAtWork(key)
                return
            digest = digest_of(operation, given)
            now_ms = self._clock.now_ms()
            claim = await self._book.claim(
                owner=owner,
                key=key,
                digest=digest,
                resource_id=resource_id or self._new_id(),
                at_ms=now_ms,
                forgotten_before_ms=now_ms - KEPT_MS,
            )
            yield claim if claim.digest == digest else KeyReused(key)

    async def run(self) -> None:
        """Forget old claims now and then, until cancelled."""
        while True:
            try:
                await self._clean()
            except (TransientError, PersistentError) as error:
                self._log.debug("old idempotency keys cannot be forgotten", reason=str(error))
            await trio.sleep(CLEAN_EVERY_S)

    async def _clean(self) -> None:
        before_ms = self._clock.now_ms() - KEPT_MS
        while await self._book.forget_claims(before_ms=before_ms, limit=CLEAN_AT_ONCE):
            await trio.lowlevel.checkpoint()


def malformed(key: str) -> str | None:
    """Why this cannot be a key; None when it can."""
    if not 1 <= len(key) <= MAX_KEY:
        return f"an idempotency key has 1 to {MAX_KEY} characters, this one has {len(key)}"
    if not key.isascii() or not key.isprintable():
        return "an idempotency key is printable ASCII, for example a UUID"
    return None


def digest_of(operation: str, given: Mapping[str, object]) -> bytes:
    """A hash of what is asked for; fields that are None are as good as absent."""
    parts = [operation, *(f"{name}={given[name]!r}" for name in sorted(given))]
    kept = [part for part in parts if not part.endswith("=None")]
    return sha256("\0".join(kept).encode()).digest()
