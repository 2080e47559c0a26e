"""What several processes of one tallyd share out among themselves: duties, posts, standings.

A duty is a name, `watch:BTC` or `deliver`. One process holds it at a time; others of the same role
stand by and take it over when the holder dies. Whoever needs something done that is another's duty
posts it to the holder and waits for the answer; what everybody may want to know of a duty, its
holder reports as a standing.

Fencing: a duty is bound to the connection through which its holder writes. When that connection
ends, the duty and every write under it end together, and the process that held it ends as well
(DutyLostError): it never takes a duty again as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from actors.ports import PersistentError

ANSWER_S = 5.0
"""How long an asker waits for somebody to begin with its post, and then again for the answer."""

FRESH_S = 10.0
"""A standing that is older than this says nothing any more: its duty has no holder."""

MAX_BODY = 1 << 20
"""Bytes in a post, an answer or a standing."""

Answerer = Callable[[str, bytes], Awaitable[bytes]]
"""Given the kind and the body of a post, gives the body of the answer.

It may be asked the same thing twice, by the same or by another process, so it must come to the same
end. It may raise TransientError or PersistentError, which are raised where the post was asked;
anything else is a bug, ends `serve`, and leaves the post unanswered.
"""


class DutyLostError(PersistentError):
    """This process held a duty and has lost the connection that the duty was bound to."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a duty's holder last said of it."""

    duty: str
    holder: str
    body: bytes
    age_s: float
    """Seconds since it was said or confirmed, below FRESH_S."""


@dataclass(frozen=True, slots=True)
class DutyStatistics:
    held: tuple[str, ...]
    """Duties of this process, sorted."""
    awaited: tuple[str, ...]
    """Duties it stands by for, sorted."""
    asked: int
    """Posts of this process that wait for their answer."""
    answering: int
    """Posts of others that it has begun with and not answered yet."""


class Duties(Protocol):
    """This process' part in the sharing out. Everything needs `run` to be running, but `take`."""

    async def run(self) -> None:
        """Hear of others, confirm our standings, fetch posts and answers; until cancelled.

        Started once, before everything else. It lives through losses of its own connection;
        nothing is lost with it, as the tables are the truth and are read again.
        """
        ...

    async def take(self, duty: str, *, holder: str) -> None:
        """Stand by until this process holds `duty`, which it then does until it ends.

        `holder` is who we are, for people: `shop-1 pid 4711`. A failure of the world is waited out,
        like another holder. Cancelled while it waits, it holds nothing. Taking a duty twice is a
        bug.
        """
        ...

    async def ask(self, duty: str, kind: str, body: bytes) -> bytes:
        """What the holder of `duty` answers; this process may be the holder itself.

        At least once: should the holder die, the next one answers, so the same post may be done
        twice. Raises what the holder raised (TransientError, PersistentError) and TransientError
        when no answer came in time, saying whether nothing was done (nobody had begun with it
        within ANSWER_S; it is withdrawn) or that it is not known. Cancelled: it may be done or not.
        """
        ...

    async def serve(self, duty: str, answer: Answerer) -> None:
        """Answer the posts of a duty that is held, several at a time, until cancelled.

        Those that an earlier holder left unanswered come first.
        """
        ...

    async def report(self, duty: str, standing: bytes) -> None:
        """Make `standing` known to every process; returns when it is stored.

        It is confirmed by itself while we hold the duty, so only changes have to be reported.
        """
        ...

    def standing(self, duty: str) -> Standing | None:
        """What the holder last said, as far as we heard; None without a holder that is alive."""
        ...

    async def announce(self, topic: str) -> None:
        """Tell every process, this one included, that what `topic` names has changed in the tables.

        For what others keep in memory: `webhooks`, `keys`. Best effort by itself; see `hearing`.
        """
        ...

    def hearing(self, topic: str, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Within the block `listener` is called soon after each announcement of `topic`.

        Also whenever one may have been missed, so every call means: read the tables again. Must
        not block or fail.
        """
        ...

    def statistics(self) -> DutyStatistics: ...
