"""One of several nodes of a chain, as its pool sees it: in use, waiting, or left for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

import trio

from actors.ports import TransientError
from daemon.drivers.rpc_client import RpcStatistics


class DistrustError(TransientError):
    """What this endpoint answered can not be true: it is left at once, another one may be right."""


class Node(Protocol):
    """What a pool needs of one node's client, whatever it is asked."""

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address, without keys."""
        ...

    @property
    def setting(self) -> str:
        """The chain's: `coin.eth`."""
        ...

    @property
    def can_subscribe(self) -> bool: ...

    async def aclose(self) -> None: ...

    def statistics(self) -> RpcStatistics: ...


NodeT = TypeVar("NodeT", bound=Node)
_NodeT_contra = TypeVar("_NodeT_contra", bound=Node, contravariant=True)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a node says of itself."""

    head: int
    """The height of its tip."""
    alien: str | None = None
    """Why it is none of our chain's, for people; None when it is."""


class Probe(Protocol[_NodeT_contra]):
    """How a family of chains tells its nodes apart. Raises TransientError and PersistentError."""

    @property
    def wanted(self) -> str:
        """What belongs in the setting, for people: `nodes of chain 1`."""
        ...

    async def look(self, client: _NodeT_contra) -> Sight: ...

    async def hash_at(self, client: _NodeT_contra, height: int) -> str | None:
        """The active chain's block hash; None when the node can not tell: it has no vote then."""
        ...


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    failures: int = 3
    """In a row, until a proven endpoint is left; one that never answered is left at the first."""
    check_every_s: float = 15.0
    lag_blocks: int = 5
    """An endpoint this many blocks behind another, and more, for `lag_s` is left."""
    lag_s: float = 30.0
    fork_depth: int = 20
    """Below the lowest head: there all endpoints must have the same block."""
    first_absence_s: float = 30.0
    longest_absence_s: float = 3600.0
    trust_s: float = 3600.0
    """After so long in health an endpoint's earlier absences are forgotten."""


class Cause(Enum):
    """Why an endpoint was left."""

    FAILED = "failed"
    LIMITED = "limited"
    LAGGING = "lagging"
    FORKED = "forked"
    WRONG_CHAIN = "wrong chain"


LAST_RESORT = {Cause.FAILED: 0, Cause.LIMITED: 1, Cause.LAGGING: 2}
"""What is asked when nothing is healthy, the best first; another chain or fork never is."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """One endpoint's standing, for `tallyd check` and metrics."""

    where: str
    state: str
    """`active`, `standby`, `untried` or `left`."""
    reason: str | None
    """Why it was left, for people."""
    head: int | None
    """Its height when it was last compared."""
    back_in_s: float | None
    """When it will be tried again, from now."""
    can_subscribe: bool


@dataclass(eq=False, slots=True)
class Endpoint(Generic[NodeT]):
    client: NodeT
    place: int
    """Position in the configuration: lower is preferred."""
    is_admitted: bool = False
    cause: Cause | None = None
    """Why it is LEFT; None when it is not."""
    reason: str | None = None
    failures: int = 0
    failing: set[str] = field(default_factory=set)
    """Kinds of requests that failed last time."""
    failed_at: float = 0.0
    absences: int = 0
    back_at: float = 0.0
    healthy_since: float | None = None
    head: int | None = None
    lags_since: float | None = None
    iterations: set[trio.CancelScope] = field(default_factory=set)
    """Readers of its subscriptions that wait for news."""

    @property
    def where(self) -> str:
        return self.client.where

    def welcome(self) -> None:
        """It is in order (again): it answered, on the right chain."""
        if self.cause is not None or self.healthy_since is None:
            self.healthy_since = trio.current_time()
        self.cause = self.reason = None

    def succeeded(self, kind: str) -> None:
        """A request of this kind was answered; failures of other kinds stand."""
        self.failing.discard(kind)
        if not self.failing:
            self.failures = 0

    def was_trusted(self, trust_s: float) -> bool:
        """Whether it has been in order for `trust_s`, up to now."""
        since = self.healthy_since
        return since is not None and trio.current_time() - since > trust_s
