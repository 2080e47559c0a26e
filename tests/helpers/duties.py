"""`actors.duties.Duties` in memory: a board that several members, standing for processes, share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from actors.duties import (
    ANSWER_S,
    FRESH_S,
    MAX_BODY,
    Answerer,
    DutyLostError,
    DutyStatistics,
    Standing,
)
from actors.ports import PersistentError, TransientError

CONFIRM_EVERY_S = 2.0


@dataclass(eq=False)
class Post:
    duty: str
    kind: str
    body: bytes
    begun_by: MemoryDuties | None = None
    answer: bytes | TransientError | PersistentError | None = None
    answered: trio.Event = field(default_factory=trio.Event)


class DutyBoard:
    """What the database is to the real thing."""

    def __init__(self) -> None:
        self.members: list[MemoryDuties] = []
        self.holders: dict[str, MemoryDuties] = {}
        self.posts: list[Post] = []
        self.standings: dict[str, tuple[str, bytes, float]] = {}
        self.changed = trio.lowlevel.ParkingLot()
        self._numbers = itertools.count(1)

    def member(self) -> MemoryDuties:
        """One more process."""
        member = MemoryDuties(self, number=next(self._numbers))
        self.members.append(member)
        return member

    def announced(self, topic: str) -> None:
        for member in self.members:
            for listener in tuple(member.listeners.get(topic, ())):
                listener()


class MemoryDuties:
    """One process' part. `die` is its `kill -9`."""

    def __init__(self, board: DutyBoard, *, number: int) -> None:
        self._board = board
        self._number = number
        self._held: dict[str, str] = {}
        self._awaited: set[str] = set()
        self._reported: dict[str, bytes] = {}
        self._asked = 0
        self._answering = 0
        self.listeners: dict[str, list[Callable[[], None]]] = {}
        self.lost = trio.Event()

    def die(self) -> None:
        """Let go of everything, answer nothing more: `run` and `serve` raise DutyLostError."""
        for duty in self._held:
            del self._board.holders[duty]
        self._held.clear()
        self._reported.clear()
        self.listeners.clear()
        self.lost.set()
        self._board.changed.unpark_all()

    async def run(self) -> None:
        while not self.lost.is_set():
            for duty, body in self._reported.items():
                self._say(duty, body)
            with trio.move_on_after(CONFIRM_EVERY_S):
                await self.lost.wait()
        raise DutyLostError("the connection is lost")

    async def take(self, duty: str, *, holder: str) -> None:
        assert duty not in self._held, f"{duty} is held already"
        assert duty not in self._awaited, f"{duty} is stood by for already"
        self._awaited.add(duty)
        try:
            while duty in self._board.holders:
                await self._board.changed.park()
                self._alive()
        finally:
            self._awaited.discard(duty)
        self._board.holders[duty] = self
        self._held[duty] = holder

    async def ask(self, duty: str, kind: str, body: bytes) -> bytes:
        assert len(body) <= MAX_BODY
        self._alive()
        post = Post(duty, kind, body)
        self._board.posts.append(post)
        self._board.changed.unpark_all()
        self._asked += 1
        try:
            return await self._answer_to(post)
        finally:
            self._asked -= 1

    async def _answer_to(self, post: Post) -> bytes:
        with trio.move_on_after(ANSWER_S):
            await post.answered.wait()
        if post.begun_by is None:
            self._board.posts.remove(post)
            raise TransientError(f"nobody answers for {post.duty}; nothing was done")
        with trio.move_on_after(ANSWER_S):
            await post.answered.wait()
        match post.answer:
            case bytes(answer):
                return answer
            case TransientError() | PersistentError() as error:
                raise type(error)(*error.args)
            case None:
                self._board.posts.remove(post)
                raise TransientError(f"{post.duty} did not answer; it is not known what was done")

    async def serve(self, duty: str, answer: Answerer) -> None:
        assert duty in self._held, f"{duty} is not held"
        async with trio.open_nursery() as nursery:
            while True:
                self._alive()
                for post in tuple(self._board.posts):
                    if post.duty == duty and post.begun_by is not self:
                        post.begun_by = self
                        nursery.start_soon(self._reply, post, answer)
                await self._board.changed.park()

    async def _reply(self, post: Post, answer: Answerer) -> None:
        said: bytes | TransientError | PersistentError
        self._answering += 1
        try:
            said = await answer(post.kind, post.body)
        except (TransientError, PersistentError) as error:
            said = error
        finally:
            self._answering -= 1
        if not self.lost.is_set() and post in self._board.posts:
            post.answer = said
            post.answered.set()
            self._board.posts.remove(post)

    async def report(self, duty: str, standing: bytes) -> None:
        assert duty in self._held, f"{duty} is not held"
        assert len(standing) <= MAX_BODY
        await trio.lowlevel.checkpoint()
        self._reported[duty] = standing
        self._say(duty, standing)

    def standing(self, duty: str) -> Standing | None:
        found = self._board.standings.get(duty)
        if found is None:
            return None
        holder, body, at = found
        age_s = trio.current_time() - at
        return Standing(duty, holder, body, age_s) if age_s < FRESH_S else None

    async def announce(self, topic: str) -> None:
        await trio.lowlevel.checkpoint()
        self._board.announced(topic)

    @contextmanager
    def hearing(self, topic: str, listener: Callable[[], None]) -> Iterator[None]:
        listeners = self.listeners.setdefault(topic, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)

    def statistics(self) -> DutyStatistics:
        return DutyStatistics(
            held=tuple(sorted(self._held)),
            awaited=tuple(sorted(self._awaited)),
            asked=self._asked,
            answering=self._answering,
        )

    def _alive(self) -> None:
        if self.lost.is_set():
            raise DutyLostError("the connection is lost")

    def _say(self, duty: str, body: bytes) -> None:
        self._board.standings[duty] = (self._held[duty], body, trio.current_time())
