"""Several nodes of one chain as if they were one: the first healthy one is asked.

States of an endpoint
  UNTRIED ──admit──▶ HEALTHY ──fails, lags, forks──▶ LEFT ──after a while, admit──▶ HEALTHY
  Admitting means: it answered, with the right chain id. One of the healthy is the active one.

Theory of operation: calls go to the active endpoint, and never on to another one when they fail,
because answers of two nodes do not fit together. Whoever follows the chain runs `watch`, which
compares the endpoints; when the active one is left, `watch` and all subscriptions raise
TransientError, and whoever follows starts anew on the next one. With a single endpoint there is
nothing to choose: its errors pass.
"""

from __future__ import annotations

import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, NoReturn, Self

import trio

from actors.ports import Log, PersistentError, TransientError
from daemon.drivers.endpoint import (
    LAST_RESORT,
    Cause,
    Endpoint,
    EndpointHealth,
    PoolPolicy,
)
from daemon.drivers.endpoint_votes import behind, outvoted
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, Call, RpcError
from daemon.drivers.jsonrpc_ws import JsonRpcWs
from daemon.drivers.paced_rpc import PATIENCE_S, PacedRpc
from daemon.drivers.pacing import RateLimitedError
from daemon.drivers.rpc_client import (
    CannotSubscribeError,
    HttpRpc,
    Lost,
    RpcClient,
    RpcStatistics,
)
from daemon.drivers.websocket import WS_PORTS

CHECK_TIMEOUT_S = 10.0
PATIENCE_WITH_OTHERS_S = 5.0
"""How long a call waits for its turn at an endpoint that limits it, when there are others."""
_ONE_FAILURE_S = 0.5


class EndpointPool:
    """An RpcClient of several endpoints in order of preference.

    `chain_id` is what each of them must answer to eth_chainId (EIP-695).
    """

    def __init__(
        self,
        clients: Sequence[RpcClient],
        *,
        chain_id: int,
        log: Log,
        policy: PoolPolicy | None = None,
    ) -> None:
        assert clients, "a pool has an endpoint"
        self._endpoints = [Endpoint(client, place) for place, client in enumerate(clients)]
        self._chain_id = chain_id
        self._log = log
        self._policy = policy or PoolPolicy()
        self._active = self._endpoints[0]
        self._choosing = trio.Lock()
        self._switched = trio.Event()
        self.switches = 0
        """How often the active endpoint changed: what was learned of a node holds until then."""
        self.switch_text = ""
        """What the last switch was, for people."""

    # --- RpcClient ---

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

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        endpoint = await self._ready()
        with self.judged(endpoint):
            return await endpoint.client.call(method, *params, timeout_s=timeout_s)

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        endpoint = await self._ready()
        with self.judged(endpoint):
            return await endpoint.client.batch(calls, timeout_s=timeout_s)

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any | Lost]]:
        endpoint = await self._ready()
        async with AsyncExitStack() as stack:
            with self.judged(endpoint):
                news = await stack.enter_async_context(endpoint.client.subscribe(kind, *params))
            yield _News(self, endpoint, news)

    async def aclose(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.client.aclose()

    def statistics(self) -> RpcStatistics:
        return sum((each.client.statistics() for each in self._endpoints), RpcStatistics())

    # --- what only a pool has ---

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
        heads: dict[Endpoint, int] = {}

        async def look(endpoint: Endpoint) -> None:
            with suppress(TransientError, PersistentError):
                heads[endpoint] = await self._look(endpoint)

        await _all(look, asked)
        self._leave_the_lagging(heads)
        await self._leave_the_forked({each: heads[each] for each in heads if each.is_admitted})
        for endpoint in heads:
            if endpoint.is_admitted and endpoint.cause is not None:
                endpoint.welcome()
                self._log.info("endpoint is well again", endpoint=endpoint.where)
        self._prefer()

    # --- choosing ---

    async def _ready(self) -> Endpoint:
        """The endpoint to ask now: admitted, and not left."""
        if self._active.is_admitted and self._active.cause is None:
            return self._active
        async with self._choosing:
            tried: set[Endpoint] = set()
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

    def _choose(self, tried: Collection[Endpoint]) -> Endpoint | None:
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
            return PersistentError(f"{text}. Put URLs of nodes of chain {self._chain_id} there")
        return TransientError(text)

    # --- judging ---

    @contextmanager
    def judged(self, endpoint: Endpoint) -> Iterator[None]:
        """Note how a request to `endpoint` ended."""
        try:
            yield
        except (RpcError, AnswerTooLargeError, CannotSubscribeError):
            endpoint.failures = 0
            raise
        except (TransientError, PersistentError) as error:
            # Of one that was left meanwhile it says nothing new.
            if endpoint.cause is None:
                self._failed(endpoint, error)
            raise
        endpoint.failures = 0

    def _failed(self, endpoint: Endpoint, error: TransientError | PersistentError) -> None:
        now = trio.current_time()
        # A lost connection fails all that is under way on it: that is one failure.
        if endpoint.failures == 0 or now - endpoint.failed_at >= _ONE_FAILURE_S:
            endpoint.failures += 1
            endpoint.failed_at = now
        where, said = f"{endpoint.where} ", str(error)
        reason = f"it {said.removeprefix(where)}" if said.startswith(where) else said
        if isinstance(error, RateLimitedError):
            self._leave(endpoint, Cause.LIMITED, reason)
        elif (
            isinstance(error, PersistentError)
            or not endpoint.is_admitted
            or endpoint.failures >= self._policy.failures
        ):
            self._leave(endpoint, Cause.FAILED, reason)

    async def _look(self, endpoint: Endpoint) -> int:
        """The endpoint's head, its chain id being right; admits it, or leaves it and raises."""
        calls: list[Call] = [("eth_chainId", ()), ("eth_blockNumber", ())]
        try:
            answers = await endpoint.client.batch(calls, timeout_s=CHECK_TIMEOUT_S)
            chain_id, head = (_quantity(answer, endpoint.where) for answer in answers)
        except (TransientError, PersistentError) as error:
            self._failed(endpoint, error)
            raise
        if chain_id != self._chain_id:
            reason = f"its chain id is {chain_id}, not {self._chain_id}"
            self._leave(endpoint, Cause.WRONG_CHAIN, reason)
            raise PersistentError(
                f"{endpoint.where} is a node of another chain: {reason}. Correct the URL in"
                f" {self.setting}.daemon.url"
            )
        endpoint.is_admitted = True
        endpoint.failures = 0
        endpoint.head = head
        return head

    def _leave_the_lagging(self, heads: Mapping[Endpoint, int]) -> None:
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

    async def _leave_the_forked(self, heads: Mapping[Endpoint, int]) -> None:
        """Leave those whose block is another one at a depth where all should agree."""
        height = min(heads.values(), default=0) - self._policy.fork_depth
        if len(heads) < 2 or height < 0:
            return
        question = ("eth_getBlockByNumber", hex(height), False)
        hashes: dict[Endpoint, str] = {}

        async def look(endpoint: Endpoint) -> None:
            with suppress(TransientError, PersistentError), self.judged(endpoint):
                block = await endpoint.client.call(*question, timeout_s=CHECK_TIMEOUT_S)
                # A node that has pruned the block has no vote.
                if isinstance(block, dict) and isinstance(block.get("hash"), str):
                    hashes[endpoint] = block["hash"].lower()

        await _all(look, list(heads))
        for endpoint, believed in outvoted(hashes, heads, active=self._active).items():
            self._leave(
                endpoint,
                Cause.FORKED,
                f"it is on a fork: its block {height} is {hashes[endpoint]}, others say {believed}",
            )

    def _leave(self, endpoint: Endpoint, cause: Cause, reason: str) -> None:
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

    def _state(self, endpoint: Endpoint) -> str:
        if endpoint.cause is not None:
            return "left"
        if endpoint is self._active:
            return "active"
        return "standby" if endpoint.is_admitted else "untried"


class _News:
    """A subscription that ends when the pool switches."""

    def __init__(
        self, pool: EndpointPool, endpoint: Endpoint, news: AsyncIterator[Any | Lost]
    ) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._news = news
        self._switches = pool.switches

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any | Lost:
        if self._pool.switches == self._switches:
            with trio.CancelScope() as iteration:
                self._endpoint.iterations.add(iteration)
                try:
                    with self._pool.judged(self._endpoint):
                        return await anext(self._news)
                finally:
                    self._endpoint.iterations.discard(iteration)
        raise TransientError(self._pool.switch_text)


def open_endpoints(
    urls: Sequence[str],
    *,
    setting: str,
    chain_id: int,
    log: Log,
    login: Login | None = None,
    timeout_s: float = 30.0,
    policy: PoolPolicy | None = None,
) -> EndpointPool:
    """A pool of paced clients: ws and wss URLs can push, http and https URLs cannot.

    `login` is for the first URL only, which is a person's own node; others bring theirs in the URL,
    so that no password goes to a stranger. Connects to nothing yet. Raises ValueError for a URL
    that is none.
    """
    clients: list[RpcClient] = []
    for place, url in enumerate(urls):
        own = login if place == 0 else None
        plain: RpcClient
        if url.partition("://")[0].lower() in WS_PORTS:
            plain = JsonRpcWs(url, setting=setting, login=own, timeout_s=timeout_s)
        else:
            plain = HttpRpc(url, setting=setting, login=own, timeout_s=timeout_s)
        patience_s = PATIENCE_S if len(urls) == 1 else PATIENCE_WITH_OTHERS_S
        clients.append(PacedRpc(plain, log=log, patience_s=patience_s))
    return EndpointPool(clients, chain_id=chain_id, log=log, policy=policy)


def _quantity(answer: object, where: str) -> int:
    """A number in a batch's answer, or the answer's error raised."""
    if isinstance(answer, RpcError):
        raise answer
    if isinstance(answer, str) and re.fullmatch("0x[0-9a-fA-F]{1,16}", answer):
        return int(answer, 16)
    raise TransientError(
        f"{where} answered garbage: no number: {str(answer)[:80]!r}. Is this an Ethereum-like node?"
    )


async def _all(run: Callable[[Endpoint], Awaitable[None]], endpoints: Sequence[Endpoint]) -> None:
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            nursery.start_soon(run, endpoint)
