"""`actors.duties.Duties` on PostgreSQL: locks of the session that writes, tables, notifications.

A notification wakes, the tables are the truth, and whatever is waited for is looked for every
POLL_S as well. Everything is written by the one writer, so what a process that lost its duties says
can no longer be recorded.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

import trio
from sqlalchemy import Connection

from actors.duties import ANSWER_S, FRESH_S, MAX_BODY, Answerer, DutyStatistics, Standing
from actors.ports import PersistentError, TransientError
from daemon.logging import get_logger
from daemon.store import posts
from daemon.store.listener import POLL_S, Bell, Listener
from daemon.store.posts import Answer, Post
from daemon.store.shared_session import SharedSession

TRY_EVERY_S = 0.25
"""How often a stand-by looks whether the duty is free. Nobody is told when a holder is killed."""

CONFIRM_EVERY_S = 2.0
"""How often a holder confirms its standings, and looks whether its connection is alive."""

SWEEP_EVERY_S = 10.0

MAX_WAITING = 10_000
"""Posts of this process that wait for their answer; who asks then is refused."""

_NAME_BYTES = 200

T = TypeVar("T")
_log = get_logger("duties")


class Runs(Protocol):
    """Calls what it is given with a connection, in a transaction, and gives its result."""

    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class _Asked:
    """A post of ours, and where its answer comes."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.answered = trio.Event()


class SqlDuties:
    """See `actors.duties.Duties`. Belongs to the Trio thread."""

    def __init__(
        self, session: SharedSession, listener: Listener, *, write: Runs, read: Runs
    ) -> None:
        self._session = session
        self._listener = listener
        self._write = write
        self._read = read
        self._process = secrets.token_hex(8)
        self._held: dict[str, str] = {}
        """With the holder's name, ours."""
        self._awaited: set[str] = set()
        self._asked: dict[UUID, _Asked] = {}
        self._answering = 0
        self._standings: dict[str, tuple[posts.Said, float]] = {}
        """With the monotonic time at which they were read."""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, posts.STANDING, self._read_standings)
            nursery.start_soon(self._hear, posts.answer_for(self._process), self._read_answers)
            nursery.start_soon(self._repeat, CONFIRM_EVERY_S, self._confirm)
            nursery.start_soon(self._repeat, SWEEP_EVERY_S, self._sweep)

    # --- holding ----------------------------------------------------------------------------------

    async def take(self, duty: str, *, holder: str) -> None:
        assert duty not in self._held, f"{duty} is held already"
        assert duty not in self._awaited, f"{duty} is stood by for already"
        assert len(duty.encode()) <= _NAME_BYTES
        self._awaited.add(duty)
        try:
            while not await self._try_to_hold(duty):  # noqa: ASYNC110 - no event comes of a kill
                await trio.sleep(TRY_EVERY_S)
        finally:
            self._awaited.discard(duty)
        # No checkpoint since the lock was ours: nobody can have cancelled us.
        self._held[duty] = holder

    async def _try_to_hold(self, duty: str) -> bool:
        holds = False
        # Cancelled in here, we would not know whether we hold it.
        with trio.CancelScope(shield=True):
            try:
                holds = await self._write(partial(self._session.try_hold, duty=duty))
            except TransientError as error:
                _log.warning("cannot see whether a duty is free", duty=duty, error=str(error))
        return holds

    async def report(self, duty: str, standing: bytes) -> None:
        assert duty in self._held, f"{duty} is not held"
        assert len(standing) <= MAX_BODY
        await self._write(
            partial(
                posts.say,
                duty=duty,
                holder=self._held[duty],
                process=self._process,
                body=standing,
            )
        )

    def standing(self, duty: str) -> Standing | None:
        if duty not in self._standings:
            return None
        said, read_at = self._standings[duty]
        age_s = max(0, said.age_ms) / 1000 + trio.current_time() - read_at
        return Standing(duty, said.holder, said.body, age_s) if age_s < FRESH_S else None

    # --- asking and answering ---------------------------------------------------------------------

    async def ask(self, duty: str, kind: str, body: bytes) -> bytes:
        assert len(body) <= MAX_BODY
        assert len(duty.encode()) <= _NAME_BYTES
        if len(self._asked) >= MAX_WAITING:
            raise TransientError(
                f"{duty}: {MAX_WAITING} requests wait for an answer already; nothing was done; try"
                " again soon"
            )
        post, asked = Post(uuid4(), kind, body), _Asked()
        self._asked[post.id] = asked
        try:
            await self._write(partial(posts.ask, post=post, duty=duty, process=self._process))
            answer = await self._answer_to(post, asked, duty)
        finally:
            del self._asked[post.id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answer_to(self, post: Post, asked: _Asked, duty: str) -> Answer:
        with trio.move_on_after(ANSWER_S):
            await asked.answered.wait()
        if asked.answer is None and await self._write(partial(posts.withdraw, post_id=post.id)):
            raise TransientError(
                f"{duty}: no process answers for it; nothing was done; look whether one runs with"
                f" --role {duty}, and try again"
            )
        with trio.move_on_after(ANSWER_S):
            await asked.answered.wait()
        if asked.answer is None:
            raise TransientError(
                f"{duty}: the process that has it did not answer in time; it is not known whether"
                " anything was done; look at its log, and try again"
            )
        return asked.answer

    async def serve(self, duty: str, answer: Answerer) -> None:
        assert duty in self._held, f"{duty} is not held"
        bell, free = Bell(), trio.Semaphore(posts.AT_ONCE)
        with self._listener.telling(posts.post_for(duty), bell.ring):
            async with trio.open_nursery() as nursery:
                told = True
                while True:
                    begun = await self._begin(duty, told=told)
                    for post in begun:
                        await free.acquire()
                        nursery.start_soon(self._reply, post, answer, free)
                    told = len(begun) == posts.AT_ONCE or await bell.wait()

    async def _begin(self, duty: str, *, told: bool) -> tuple[Post, ...]:
        """What there is to be answered; not `told` of anything, look first: it costs less."""
        mine = partial(posts.is_asked, duty=duty, process=self._process)
        try:
            if told or await self._read(mine):
                return await self._write(partial(posts.begin, duty=duty, process=self._process))
        except TransientError as error:
            _log.warning("cannot fetch what is asked of us", duty=duty, error=str(error))
            await trio.sleep(POLL_S)
        return ()

    async def _reply(self, post: Post, answer: Answerer, free: trio.Semaphore) -> None:
        said: Answer
        self._answering += 1
        try:
            try:
                said = await answer(post.kind, post.body)
                assert len(said) <= MAX_BODY
            except (TransientError, PersistentError) as error:
                said = error
            record = partial(posts.answer, post_id=post.id, said=said, process=self._process)
            await self._write(record)
        except TransientError as error:
            _log.warning("cannot answer what was asked of us", kind=post.kind, error=str(error))
        finally:
            self._answering -= 1
            free.release()

    # --- telling everybody ------------------------------------------------------------------------

    async def announce(self, topic: str) -> None:
        assert len(topic.encode()) <= _NAME_BYTES
        await self._write(partial(posts.notify, what=posts.topic_of(topic)))

    def hearing(self, topic: str, listener: Callable[[], None]) -> AbstractContextManager[None]:
        return self._listener.telling(posts.topic_of(topic), listener)

    def statistics(self) -> DutyStatistics:
        return DutyStatistics(
            held=tuple(sorted(self._held)),
            awaited=tuple(sorted(self._awaited)),
            asked=len(self._asked),
            answering=self._answering,
        )

    # --- in the background ------------------------------------------------------------------------

    async def _hear(self, what: str, read: Callable[[], Awaitable[None]]) -> None:
        """Call `read` now, when `what` is notified, and every POLL_S."""
        bell = Bell()
        with self._listener.telling(what, bell.ring):
            while True:
                try:
                    await read()
                except TransientError as error:
                    _log.warning("cannot read what other processes say", error=str(error))
                    await trio.sleep(POLL_S)
                await bell.wait()

    async def _read_standings(self) -> None:
        read_at = trio.current_time()
        found = await self._read(posts.said)
        self._standings = {said.duty: (said, read_at) for said in found}

    async def _read_answers(self) -> None:
        if not self._asked:
            return
        found = await self._read(partial(posts.answers, post_ids=tuple(self._asked)))
        for post_id, answer in found.items():
            asked = self._asked.get(post_id)
            if asked is not None:
                asked.answer = answer
                asked.answered.set()

    async def _confirm(self) -> None:
        if self._held:
            await self._write(partial(posts.confirm, process=self._process))

    async def _sweep(self) -> None:
        await self._write(posts.sweep)

    async def _repeat(self, every_s: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except TransientError as error:
                _log.warning("cannot keep up what we share with others", error=str(error))
            await trio.sleep(every_s)
