"""Several nodes of one chain as if they were one: the first healthy one is asked.

States of an endpoint
  UNTRIED ──admit──▶ HEALTHY ──fails, lags, forks──▶ LEFT ──after a while, admit──▶ HEALTHY
  Admitting means: it answered, as a node of the right chain. One of the healthy is the active one.

Theory of operation: calls go to the active endpoint, and never on to another one when they fail,
because answers of two nodes do not fit together. Whoever follows the chain runs `watch`, which
compares the endpoints; when the active one is left, `watch` and all subscriptions raise
TransientError, and whoever follows starts anew on the next one. With a single endpoint there is
nothing to choose: its errors pass.

What differs between families of chains is a Probe's: who a node is, its head, its block hashes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, NoReturn, TypeVar

import trio

from actors.ports import Log, PersistentError, TransientError
from daemon.drivers.endpoint import (
    LAST_RESORT,
    Cause,
    DistrustError,
    Endpoint,
    EndpointHealth,
    NodeT,
    PoolPolicy,
    Probe,
)
from daemon.drivers.endpoint_votes import behind, outvoted
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, RpcError
from daemon.drivers.pacing import RateLimitedError
from daemon.drivers.rpc_client import CannotSubscribeError, RpcStatistics

_ONE_FAILURE_S = 0.5

T = TypeVar("T")


class NodePool(Generic[NodeT]):
    """Clients of several nodes in order of preference; `probe` tells the nodes of the chain."""

    def __init__(
        self,
        clients: Sequence[NodeT],
        *,
        probe: Probe[NodeT],
        log: Log,
        policy: PoolPolicy | None = None,
    ) -> None:
        assert clients, "a pool has an endpoint"
        self._endpoints = [Endpoint(client, place) for place, client in enumerate(clients)]
        self._probe = probe
        self._log = log
        self._policy = policy or PoolPolicy()
        self._active = self._endpoints[0]
        self._choosing = trio.Lock()
        self._switched = trio.Event()
        self.switches = 0
        """How often the active endpoint changed: what was learned of a node holds until then."""
        self.switch_text = ""
        """What the last switch was, for people."""

    @property
    def clients(self) -> tuple[NodeT, ...]:
        """Every endpoint's, in order of preference."""
        return tuple(each.client for each in self._endpoints)

    @property
    def where(self) -> str:
        return self._active.where

    @property
    def setting(self) -> str:
        return self._active.client.setting

    @property
    def can_subscribe(self) -> bool:
        """Whether the active endpoint can; known for sure after a call."""
        return self._active.client.can_subscribe

    async def use(self, ask: Callable[[NodeT], Awaitable[T]], *, kind: str = "") -> T:
        """What `ask` gets from the active endpoint's client.

        Successes of one `kind` of request do not make up for failures of another: a node that
        answers small questions and breaks off every large answer is left all the same.
        """
        endpoint = await self._ready()
        with self.judged(endpoint, kind):
            return await ask(endpoint.client)

    def distrust(self, error: DistrustError) -> None:
        """Leave the active endpoint, whose answers turned out to be untrue only when compared."""
        if self._active.cause is None:
            self._failed(self._active, error, "")

    async def aclose(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.client.aclose()

    def statistics(self) -> RpcStatistics:
        return sum((each.client.statistics() for each in self._endpoints), RpcStatistics())

    def health(self) -> tuple[EndpointHealth, ...]:
        """Every endpoint in order of preference."""
        now = trio.current_time()
        return tuple(
            EndpointHealth(
                where=each.where,
                state=self._state(each),
                reason=each.reason,
                head=each.head,
                back_in_s=max(0.0, each.back_at - now) if each.cause else None,
                can_subscribe=each.client.can_subscribe,
            )
            for each in self._endpoints
        )

    async def watch(self) -> NoReturn:
        """Compare the endpoints until the active one changes; raises TransientError then.

        Run it while following the chain, together with what has to start anew after a switch.
        """
        switches = self.switches
        if len(self._endpoints) == 1:
            await trio.sleep_forever()
        while self.switches == switches:
            await self.check()
            with trio.move_on_after(self._policy.check_every_s):
                if self.switches == switches:
                    await self._switched.wait()
        raise TransientError(self.switch_text)

    async def check(self) -> None:
        """Compare all endpoints once, and leave or welcome them accordingly."""
        now = trio.current_time()
        asked = [each for each in self._endpoints if each.cause is None or each.back_at <= now]
        heads: dict[Endpoint[NodeT], int] = {}

        async def look(endpoint: Endpoint[NodeT]) -> None:
            with suppress(TransientError, PersistentError):
                heads[endpoint] = await self._look(endpoint)

        await _all(look, asked)
        self._leave_the_lagging(heads)
        await self._leave_the_forked({each: heads[each] for each in heads if each.is_admitted})
        for endpoint in heads:
            # One that was left while it was looked at has its absence before it.
            if endpoint.is_admitted and endpoint.cause is not None and endpoint.back_at <= now:
                endpoint.welcome()
                self._log.info("endpoint is well again", endpoint=endpoint.where)
        self._prefer()

    # --- choosing ---

    async def _ready(self) -> Endpoint[NodeT]:
        """The endpoint to ask now: admitted, and not left."""
        if self._active.is_admitted and self._active.cause is None:
            return self._active
        async with self._choosing:
            tried: set[Endpoint[NodeT]] = set()
            while (endpoint := self._choose(tried)) is not None:
                tried.add(endpoint)
                if not endpoint.is_admitted:
                    try:
                        await self._look(endpoint)
                    except (TransientError, PersistentError):
                        if len(self._endpoints) == 1:
                            raise
                        continue
                endpoint.welcome()
                if endpoint is not self._active:
                    self._active = endpoint
                    self._log.info("using another endpoint", endpoint=endpoint.where)
                return endpoint
        raise self._all_failed()

    def _choose(self, tried: Collection[Endpoint[NodeT]]) -> Endpoint[NodeT] | None:
        """The first that is not left or may be tried again; else the least hopeless one."""
        if self._active.cause is None:
            return self._active
        now = trio.current_time()
        untried = [each for each in self._endpoints if each not in tried]
        for endpoint in untried:
            if endpoint.cause is None or endpoint.back_at <= now:
                return endpoint
        ranked = [
            (LAST_RESORT[each.cause], each.back_at, each.place)
            for each in untried
            if each.cause in LAST_RESORT
        ]
        return self._endpoints[min(ranked)[2]] if ranked else None

    def _prefer(self) -> None:
        """Return to a better endpoint if there is one."""
        for endpoint in self._endpoints[: self._active.place]:
            if endpoint.cause is None and endpoint.is_admitted:
                self._let_go(f"returned to {endpoint.where}, which is preferred")
                self._active = endpoint
                self._log.info("using preferred endpoint again", endpoint=endpoint.where)
                return

    def _all_failed(self) -> TransientError | PersistentError:
        reasons = "; ".join(f"{each.where}: {each.reason}" for each in self._endpoints)
        causes = {each.cause for each in self._endpoints}
        text = f"no endpoint in {self.setting}.daemon.url can be used: {reasons}"
        if causes == {Cause.WRONG_CHAIN}:
            return PersistentError(f"{text}. Put URLs of {self._probe.wanted} there")
        return TransientError(text)

    # --- judging ---

    @contextmanager
    def judged(self, endpoint: Endpoint[NodeT], kind: str = "") -> Iterator[None]:
        """Note how a request of one `kind` to `endpoint` ended."""
        try:
            yield
        except (RpcError, AnswerTooLargeError, CannotSubscribeError):
            endpoint.succeeded(kind)
            raise
        except (TransientError, PersistentError) as error:
            # Of one that was left meanwhile it says nothing new.
            if endpoint.cause is None:
                self._failed(endpoint, error, kind)
            raise
        endpoint.succeeded(kind)

    def _failed(
        self, endpoint: Endpoint[NodeT], error: TransientError | PersistentError, kind: str
    ) -> None:
        now = trio.current_time()
        endpoint.failing.add(kind)
        # A lost connection fails all that is under way on it: that is one failure.
        if endpoint.failures == 0 or now - endpoint.failed_at >= _ONE_FAILURE_S:
            endpoint.failures += 1
            endpoint.failed_at = now
        where, said = f"{endpoint.where} ", str(error)
        reason = f"it {said.removeprefix(where)}" if said.startswith(where) else said
        if isinstance(error, RateLimitedError):
            self._leave(endpoint, Cause.LIMITED, reason)
        elif (
            isinstance(error, PersistentError | DistrustError)
            or not endpoint.is_admitted
            or endpoint.failures >= self._policy.failures
        ):
            self._leave(endpoint, Cause.FAILED, reason)

    async def _look(self, endpoint: Endpoint[NodeT]) -> int:
        """The endpoint's head, the chain being right; admits it, or leaves it and raises."""
        try:
            sight = await self._probe.look(endpoint.client)
        except (TransientError, PersistentError) as error:
            self._failed(endpoint, error, "")
            raise
        if sight.alien is not None:
            self._leave(endpoint, Cause.WRONG_CHAIN, sight.alien)
            raise PersistentError(
                f"{endpoint.where} is a node of another chain: {sight.alien}. Correct the URL in"
                f" {self.setting}.daemon.url"
            )
        endpoint.is_admitted = True
        endpoint.succeeded("")
        endpoint.head = sight.head
        return sight.head

    def _leave_the_lagging(self, heads: Mapping[Endpoint[NodeT], int]) -> None:
        now = trio.current_time()
        lagging = behind(heads, lag_blocks=self._policy.lag_blocks)
        for endpoint in heads:
            if endpoint not in lagging:
                endpoint.lags_since = None
                continue
            if endpoint.lags_since is None:
                endpoint.lags_since = now
            if now - endpoint.lags_since >= self._policy.lag_s or endpoint.cause is not None:
                reason = f"it is {lagging[endpoint]} blocks behind another endpoint"
                self._leave(endpoint, Cause.LAGGING, reason)

    async def _leave_the_forked(self, heads: Mapping[Endpoint[NodeT], int]) -> None:
        """Leave those whose block is another one at a depth where all should agree."""
        height = min(heads.values(), default=0) - self._policy.fork_depth
        if len(heads) < 2 or height < 0:
            return
        hashes: dict[Endpoint[NodeT], str] = {}

        async def look(endpoint: Endpoint[NodeT]) -> None:
            with suppress(TransientError, PersistentError), self.judged(endpoint):
                block_hash = await self._probe.hash_at(endpoint.client, height)
                if block_hash is not None:
                    hashes[endpoint] = block_hash

        await _all(look, list(heads))
        for endpoint, believed in outvoted(hashes, heads, active=self._active).items():
            self._leave(
                endpoint,
                Cause.FORKED,
                f"it is on a fork: its block {height} is {hashes[endpoint]}, others say {believed}",
            )

    def _leave(self, endpoint: Endpoint[NodeT], cause: Cause, reason: str) -> None:
        now = trio.current_time()
        endpoint.reason = reason
        endpoint.is_admitted = False
        if len(self._endpoints) == 1:
            return
        was_left = endpoint.cause is not None
        if not was_left and endpoint.was_trusted(self._policy.trust_s):
            endpoint.absences = 0
        absence_s = min(
            self._policy.first_absence_s * 2**endpoint.absences, self._policy.longest_absence_s
        )
        endpoint.absences = min(endpoint.absences + 1, 16)
        endpoint.cause = cause
        endpoint.back_at = now + absence_s
        endpoint.lags_since = None
        endpoint.failures = 0
        endpoint.failing.clear()
        if was_left:
            self._log.debug("endpoint stays left", endpoint=endpoint.where, because=reason)
            return
        self._log.warning(
            "left endpoint", endpoint=endpoint.where, because=reason, for_s=round(absence_s)
        )
        if endpoint is self._active:
            self._let_go(f"left {endpoint.where} because {reason}")

    def _let_go(self, why: str) -> None:
        """End all that follows the active endpoint."""
        self.switches += 1
        self.switch_text = why
        for iteration in list(self._active.iterations):
            iteration.cancel()
        self._switched.set()
        self._switched = trio.Event()

    def _state(self, endpoint: Endpoint[NodeT]) -> str:
        if endpoint.cause is not None:
            return "left"
        if endpoint is self._active:
            return "active"
        return "standby" if endpoint.is_admitted else "untried"


async def _all(
    run: Callable[[Endpoint[NodeT]], Awaitable[None]], endpoints: Sequence[Endpoint[NodeT]]
) -> None:
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            nursery.start_soon(run, endpoint)
