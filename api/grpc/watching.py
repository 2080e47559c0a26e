"""WatchInvoices: a reader is first given what was, then what comes.

Theory of operation
-------------------
A reader that lags *reads*: it takes pages from the outbox, and waits until each has gone out. One
that has everything *listens*: what is published is encoded once and pushed to all who listen with
the same filter, in the turn of the event loop in which it was published. Who has not taken what was
pushed before, or would have to take much at once, goes back to reading; so a burst costs nobody his
stream, and nobody's slowness costs memory. A reader that lost more than MAX_LAG events of ground
while it followed is ended, and told where to resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import trio
from grpclib.const import Status

from actors.outbox import (
    EVERYTHING,
    TAIL_EVENTS,
    Filter,
    Follower,
    Outbox,
    Published,
    TooFarBehind,
)
from api.grpc.call import Call
from api.grpc.codec import Encoded
from api.grpc.event_frames import EventFrames
from api.grpc.status import CallError

MAX_LAG = 50_000
"""Events that a reader who had caught up may be behind."""
PUSHED_EVENTS = 256
"""More at once are read instead: one turn of the event loop must stay short."""
QUEUED_BYTES = 128 * 1024
"""Who has more than this waiting for him goes back to reading."""
DOMAIN = "tally"


class Watching:
    """All who watch."""

    def __init__(self, outbox: Outbox, *, max_lag: int = MAX_LAG) -> None:
        self._outbox = outbox
        self._max_lag = max_lag
        self._frames = EventFrames()
        self._listeners: dict[Filter, set[_Watcher]] = {}
        self._listening = ExitStack()

    @property
    def listening(self) -> int:
        """Readers that have everything."""
        return sum(map(len, self._listeners.values()))

    async def serve(
        self, call: Call, *, after_seq: int | None, wanted: Filter, heartbeat_s: float
    ) -> None:
        """Push events into the call until it ends; `after_seq` None begins now.

        The place stands before the headers go out: a client that waits for them, and then creates
        an invoice, hears of it. Raises CallError for a reader that is too far behind.
        """
        async with self._outbox.follow(after_seq, wanted, max_lag=self._max_lag) as follower:
            watcher = _Watcher(call, follower)
            call.slow_reader = watcher.too_slow
            if not call.outlet.closed:
                call.outlet.start()
            try:
                while True:
                    await self._read(watcher)
                    # No await between the two: who has everything now misses nothing.
                    with self._listen(watcher, wanted):
                        call.push(self._frames.heartbeat(self._outbox.newest_seq))
                        await self._keep_alive(watcher, heartbeat_s)
            except TooFarBehind as behind:
                raise too_far_behind(behind.resume_seq) from None

    async def _read(self, watcher: _Watcher) -> None:
        """Send what is there, until there is no more."""
        follower, call = watcher.follower, watcher.call
        while True:
            if not call.outlet.queued_bytes:
                watcher.safe_seq = follower.seq
            batch = await follower.take()
            if not batch:
                return
            keep = self._outbox.newest_seq - follower.seq < TAIL_EVENTS
            for response in self._frames.responses(batch, follower.seq, keep=keep):
                await call.send_message(response)

    async def _keep_alive(self, watcher: _Watcher, heartbeat_s: float) -> None:
        """Tell the reader now and then where it stands, until it has to read again."""
        while True:
            with trio.move_on_after(heartbeat_s):
                await watcher.lags.wait()
            # Looked at, and not taken from how the wait ended: both may happen at one moment, and a
            # heartbeat would then say that the reader has what it has yet to read.
            if watcher.lags.is_set():
                return
            if not watcher.call.outlet.queued_bytes:
                watcher.call.push(self._frames.heartbeat(self._outbox.newest_seq))

    @contextmanager
    def _listen(self, watcher: _Watcher, wanted: Filter) -> Iterator[None]:
        watcher.lags = trio.Event()
        if not self._listeners:
            self._listening.enter_context(self._outbox.listening(self._publish))
        self._listeners.setdefault(wanted, set()).add(watcher)
        try:
            yield
        finally:
            # Also where the watcher was sent away to read: then it is not there any more.
            self._leave(watcher, wanted)

    def _leave(self, watcher: _Watcher, wanted: Filter) -> None:
        group = self._listeners.get(wanted, set())
        group.discard(watcher)
        if not group and self._listeners.pop(wanted, None) is not None and not self._listeners:
            self._listening.close()

    def _publish(self, events: Sequence[Published]) -> None:
        before_seq, seq = events[0].seq - 1, events[-1].seq
        for wanted, group in tuple(self._listeners.items()):
            chosen = events if wanted == EVERYTHING else tuple(filter(wanted.matches, events))
            if not chosen:
                continue
            responses: list[Encoded] = []
            size = QUEUED_BYTES + 1
            if len(chosen) <= PUSHED_EVENTS:
                responses = list(self._frames.responses(chosen, seq, keep=True))
                size = sum(response.body_bytes for response in responses)
            room = QUEUED_BYTES - size
            for watcher in tuple(group):
                queued_bytes = watcher.outlet.queued_bytes
                if queued_bytes > room:
                    watcher.reads_on(before_seq)
                    self._leave(watcher, wanted)
                    continue
                if not queued_bytes:
                    watcher.safe_seq = before_seq
                for response in responses:
                    watcher.push(response)


class _Watcher:
    """One reader."""

    __slots__ = ("call", "follower", "lags", "outlet", "push", "safe_seq")

    def __init__(self, call: Call, follower: Follower) -> None:
        self.call = call
        self.outlet = call.outlet
        self.push = call.push
        self.follower = follower
        self.lags = trio.Event()
        """Set when it has to read again."""
        self.safe_seq = follower.seq
        """What came up to here has gone out; what came later may wait still."""

    def reads_on(self, seq: int) -> None:
        """Everything up to there was pushed."""
        self.follower.went_on(seq)
        self.lags.set()

    def too_slow(self) -> CallError:
        return too_far_behind(self.safe_seq)


def too_far_behind(resume_seq: int) -> CallError:
    return CallError(
        Status.RESOURCE_EXHAUSTED,
        "The reader is too far behind: events were not taken from the stream in time. Call again"
        f" with after_seq {resume_seq}, or with the `seq` of the last response that you have.",
        reason="READER_TOO_FAR_BEHIND",
        domain=DOMAIN,
        facts={"resume_after_seq": str(resume_seq)},
    )
