"""The outbox: the log as readers get it, from any point, first what was and then what comes.

Theory of operation
-------------------
A reader stands at a cursor, the sequence number up to which it has everything. It reads the store
in pages until it has reached what is published, then the tail: the newest events, kept in memory
once for all readers while there are any. A reader whose cursor is older than the tail reads the
store again, so none of them holds up another, or the writer, or costs memory. Nothing is shown
before the hub has published it, so the store's pages and the tail meet without gap or overlap.

A reader who has everything waits for a bell, which rings for its user or its invoice only: a busy
shop does not wake the readers of all others.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import orjson
import trio

from actors.core.codec import event_to_json
from actors.event_hub import EventHub
from actors.ports import Committed, Store
from actors.published import EVERYTHING, Filter, LogNames, LogTip, Published, PublishedPage

TAIL_EVENTS = 8192
"""Events kept in memory while somebody follows."""
PAGE_EVENTS = 1000
"""Events read from the store at a time."""

_CURSOR = re.compile(r"(?:(?P<log>[0-9a-f]{8})-)?(?P<seq>-?[0-9]{1,19})")

__all__ = [
    "EVERYTHING",
    "CursorRefused",
    "Filter",
    "Follower",
    "Outbox",
    "OutboxStatistics",
    "Published",
    "PublishedPage",
    "TooFarBehind",
    "published",
]


@dataclass(frozen=True, slots=True)
class CursorRefused:
    """A cursor that cannot be one of this log's; `reason` says why and what to do, for people."""

    cursor: str
    reason: str


class TooFarBehind(Exception):  # noqa: N818 - not an error of anybody's program: a reader is slow
    """The reader follows, but takes events more slowly than they come."""

    def __init__(self, resume_seq: int) -> None:
        super().__init__(f"too far behind; resume after {resume_seq}")
        self.resume_seq = resume_seq


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    followers: int
    """Readers and listeners of what comes."""
    tail: int
    """Events in memory."""


Listener = Callable[[Sequence[Published]], None]
"""Called on the Trio thread with each committed batch, in order; must not block or fail."""


class Outbox:
    """Reads the log forwards; holds no state but the tail. Everything belongs to the Trio thread.

    Reads may raise TransientError or PersistentError, as the store does.
    """

    def __init__(self, store: Store, hub: EventHub, *, tail_events: int = TAIL_EVENTS) -> None:
        self._store = store
        self._hub = hub
        self._names: LogNames | None = None
        self._tail: deque[Published] = deque(maxlen=tail_events)
        self._last_seq = 0
        """Of what was published; only known while somebody listens."""
        self._listeners: set[Listener] = set()
        self._bells: dict[UUID | None, _Bell] = {}
        """By what the waiting readers' filters name: an invoice, a user, or nothing."""
        self._followers = 0
        self._ears = ExitStack()
        self._hears = False

    async def log_id(self) -> str:
        """The database's own eight hexadecimal digits, which every event id begins with."""
        return (await self._log_names()).current

    async def _log_names(self) -> LogNames:
        if self._names is None:
            self._names = await self._store.log_names()
        return self._names

    async def last_seq(self) -> int:
        """The newest event's number; 0 in an empty log."""
        return await self._store.last_seq()

    async def tip(self) -> LogTip:
        """The newest event's number, published already or not, with its link of the hash chain."""
        return await self._store.tip()

    async def read(
        self, after_seq: int, limit: int, wanted: Filter = EVERYTHING
    ) -> list[Published]:
        """Up to `limit` events after the cursor, oldest first; fewer only at the log's end."""
        return (await self.page(after_seq, limit, wanted)).events

    async def page(self, after_seq: int, limit: int, wanted: Filter = EVERYTHING) -> PublishedPage:
        """The same with the cursor to go on from, which with a filter is beyond the last event."""
        last_seq = await self._store.last_seq()
        found: list[Published] = []
        reached = max(0, after_seq)
        while reached < last_seq and len(found) < limit:
            events, reached = await self.stretch(reached, limit - len(found), wanted)
            found += events
        return PublishedPage(found, reached)

    async def stretch(
        self, after_seq: int, limit: int, wanted: Filter = EVERYTHING
    ) -> PublishedPage:
        """As much of a page as one look at the store gives: perhaps only a place further on."""
        # What is committed but not yet published is not for readers: the end first, then the look.
        last_seq = await self._store.last_seq()
        events, reached = await self._store.published(
            after_seq=after_seq, limit=limit, wanted=wanted
        )
        while events and events[-1].seq > last_seq:
            events.pop()
        return PublishedPage(events, max(0, after_seq, min(reached, last_seq)))

    async def parse_cursor(self, cursor: str | int) -> int | CursorRefused:
        """The sequence number that a reader gave: plain, or as an event id.

        0 and -1 mean the beginning. Refused are the future, the event of another database or of one
        that was lost when this one was restored from a backup, and what is no cursor at all.
        """
        text = str(cursor)
        found = _CURSOR.fullmatch(text)
        if found is None or (seq := int(found["seq"])) < -1:
            return CursorRefused(
                text[:60],
                f"the cursor {text[:60]!r} is neither a sequence number nor an event id; give the"
                " `seq` or `id` of the last event you have, or 0 to read from the beginning",
            )
        names = await self._log_names()
        if found["log"] not in (None, names.current):
            until = names.until(found["log"])
            if until is None:
                return CursorRefused(
                    text,
                    f"the event {text} is of another database (this one's events begin with"
                    f" {names.current}-); connect to the daemon that it came from, or read this one"
                    " from the beginning with 0",
                )
            if seq > until:
                return CursorRefused(
                    text,
                    f"the event {text} was lost: this database was restored from a backup that ends"
                    f" with {names.of(until)}-{until}, and what happened later was recorded anew;"
                    " read again from there, and compare what you find with what you have",
                )
        last_seq = await self.last_seq()
        if seq > last_seq:
            # Another process on this database may have told it already, and we tell it soon.
            last_seq = (await self.tip()).seq
        if seq > last_seq:
            return CursorRefused(
                text,
                f"the cursor {seq} is beyond the newest event {last_seq}: it is of another"
                " database, or this one was restored from a backup; read again from a cursor that"
                f" is at most {last_seq}, and compare what you find with what you have",
            )
        return max(0, seq)

    @asynccontextmanager
    async def follow(
        self,
        after_seq: int | None = None,
        wanted: Filter = EVERYTHING,
        *,
        max_lag: int | None = None,
    ) -> AsyncIterator[Follower]:
        """What came after `after_seq` (None: after now), then what comes: no gap, no duplicate.

        Entering means: the place is fixed. With `max_lag`, iterating raises TooFarBehind once the
        follower, having caught up, has more than that many events of the log before it.
        """
        await self._learn()
        with self._hearing():
            start_seq = self._last_seq if after_seq is None else max(0, after_seq)
            yield Follower(self, start_seq, wanted, max_lag)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Have `listener` called with every batch published from now on.

        Only inside of `follow`. A follower that `take` just told that there is no more has all that
        came before, if no await lies between the two.
        """
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    @property
    def newest_seq(self) -> int:
        """The newest published event's number; only inside of `follow`."""
        return self._last_seq

    def statistics(self) -> OutboxStatistics:
        return OutboxStatistics(followers=self._followers, tail=len(self._tail))

    # --- the tail ---------------------------------------------------------------------------------

    async def _learn(self) -> None:
        """What must be known before somebody hears; afterwards nobody waits until it does."""
        await self.log_id()
        last_seq = await self._store.last_seq()
        if not self._hears:
            self._last_seq = last_seq

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Keep the tail while somebody needs it; the last one to leave clears it."""
        if not self._hears:
            self._ears.enter_context(self._hub.listening(self._hear))
            self._hears = True
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1
            if self._followers == 0:
                self._hears = False
                self._ears.close()
                self._tail.clear()

    def _hear(self, batch: Sequence[Committed]) -> None:
        assert self._names is not None
        log_id = self._names.current
        events = tuple(published(log_id, one) for one in batch)
        self._tail.extend(events)
        self._last_seq = events[-1].seq
        self._ring(events)
        for listener in tuple(self._listeners):
            listener(events)

    def _ring(self, events: Sequence[Published]) -> None:
        named = {None, *(one.user_id for one in events), *(one.invoice_id for one in events)}
        for name in named & self._bells.keys():
            bell = self._bells.pop(name)
            bell.silent_until = events[0].seq - 1
            bell.rung.set()

    @contextmanager
    def _bell(self, name: UUID | None) -> Iterator[_Bell]:
        """Rings with the next batch that has an event of this user or invoice; None: with any."""
        bell = self._bells.setdefault(name, _Bell())
        bell.waiting += 1
        try:
            yield bell
        finally:
            bell.waiting -= 1
            if not bell.waiting and self._bells.get(name) is bell:
                del self._bells[name]

    def _recent(self, after_seq: int) -> list[Published] | None:
        """A page of the tail; None when it does not reach back so far."""
        if not self._tail or after_seq < self._tail[0].seq - 1:
            return None
        # The log has no gaps, so the place is known. From the nearer end, a deque is fast.
        start = after_seq + 1 - self._tail[0].seq
        if start < len(self._tail) // 2:
            return list(islice(self._tail, start, start + PAGE_EVENTS))
        return list(reversed(list(islice(reversed(self._tail), len(self._tail) - start))))[
            :PAGE_EVENTS
        ]


class _Bell:
    """What the readers wait for who stand at the newest event and ask for the same."""

    __slots__ = ("rung", "silent_until", "waiting")

    def __init__(self) -> None:
        self.rung = trio.Event()
        self.silent_until: int | None = None
        """Up to there came nothing for them; None until it rings: nothing came at all."""
        self.waiting = 0


class Follower:
    """One reader's place in the log; iterate over it for batches, never empty, oldest first.

    A batch that iterating was cancelled in is not lost: the place moves when a batch is returned.
    """

    def __init__(self, outbox: Outbox, seq: int, wanted: Filter, max_lag: int | None) -> None:
        self._outbox = outbox
        self._filter = wanted
        self._max_lag = max_lag
        self._live = False
        self.seq = seq
        """Everything wanted up to here was returned: where a heartbeat stands, and who resumes."""

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> tuple[Published, ...]:
        while True:
            batch = await self.take()
            if batch:
                return batch
            await self.wait()

    async def take(self) -> tuple[Published, ...]:
        """The next batch that is there already; empty once there is no more.

        Empty means: at this moment, `seq` is the newest published event. Raises TooFarBehind.
        """
        outbox = self._outbox
        await trio.lowlevel.checkpoint()
        while self.seq < outbox._last_seq:  # noqa: SLF001 - the two halves of one mechanism
            lag = outbox._last_seq - self.seq  # noqa: SLF001 - as above
            if self._live and self._max_lag is not None and lag > self._max_lag:
                raise TooFarBehind(self.seq)
            recent = outbox._recent(self.seq)  # noqa: SLF001 - as above
            if recent is None:
                # One look at a time: a place that was reached is kept, whoever cancels the next.
                events, reached = await outbox.stretch(self.seq, PAGE_EVENTS, self._filter)
            else:
                reached = recent[-1].seq
                events = [one for one in recent if self._filter.matches(one)]
            self.seq = reached
            if events:
                return tuple(events)
        self._live = True
        return ()

    def went_on(self, seq: int) -> None:
        """Somebody else has given the reader everything wanted up to there."""
        self.seq = max(self.seq, seq)

    async def wait(self) -> None:
        """Until something that was not taken is published; it need not match the filter.

        Whoever waited stands before that, or at the newest event if the wait was cancelled.
        """
        outbox, wanted = self._outbox, self._filter
        if self.seq < outbox._last_seq:  # noqa: SLF001 - as above
            return
        with outbox._bell(wanted.invoice_id or wanted.user_id) as bell:  # noqa: SLF001 - as above
            try:
                await bell.rung.wait()
            finally:
                silent_until = bell.silent_until
                self.went_on(outbox._last_seq if silent_until is None else silent_until)  # noqa: SLF001 - as above


def published(log_id: str, committed: Committed) -> Published:
    """The event as it goes out, from what the hub was told."""
    event = committed.event
    data = event_to_json(event)
    del data["at_ms"]
    terms = committed.after.terms
    return Published(
        f"{log_id}-{committed.seq}",
        committed.seq,
        event.kind,
        event.at_ms,
        terms.invoice_id,
        terms.user_id,
        committed.after.version,
        terms.asset,
        # A copy: what orjson returns holds on to a buffer of 4 KB, and the tail is kept.
        bytes(memoryview(orjson.dumps(data))),
    )
