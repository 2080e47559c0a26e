"""What the holders of duties are asked through, for as long as this process has time to wait."""

from __future__ import annotations

from typing import Protocol

import trio

from actors.duties import Duties, Standing
from actors.ports import TransientError


class Asks(Protocol):
    """The part of `Duties` that those need who hold none."""

    async def ask(self, duty: str, kind: str, body: bytes) -> bytes: ...

    def standing(self, duty: str) -> Standing | None: ...


class Asking:
    """`Asks` that end when they are told to, also where nobody may be cancelled.

    A request that must be finished once it has begun is shielded from its caller's leaving, and
    would hold up a process that stops for as long as an answer may take.
    """

    def __init__(self, duties: Duties) -> None:
        self._duties = duties
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    async def ask(self, duty: str, kind: str, body: bytes) -> bytes:
        """As `Duties.ask`; also raises TransientError when this process stops meanwhile."""
        with trio.CancelScope() as scope:
            if self._closed:
                scope.cancel()
            self._scopes.add(scope)
            try:
                return await self._duties.ask(duty, kind, body)
            finally:
                self._scopes.discard(scope)
        raise TransientError(
            f"tallyd was stopped while it waited for {duty}, and it is not known what was done: ask"
            " again, here or at another process"
        )

    def standing(self, duty: str) -> Standing | None:
        return self._duties.standing(duty)

    def close(self) -> None:
        """Answer everybody who waits, and who comes yet, that this process stops."""
        self._closed = True
        for scope in tuple(self._scopes):
            scope.cancel()
