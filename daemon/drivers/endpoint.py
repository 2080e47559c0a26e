"""One of several nodes of a chain, as its pool sees it: in use, waiting, or left for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import trio

from daemon.drivers.rpc_client import RpcClient


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
class Endpoint:
    client: RpcClient
    place: int
    """Position in the configuration: lower is preferred."""
    is_admitted: bool = False
    cause: Cause | None = None
    """Why it is LEFT; None when it is not."""
    reason: str | None = None
    failures: int = 0
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

    def was_trusted(self, trust_s: float) -> bool:
        """Whether it has been in order for `trust_s`, up to now."""
        since = self.healthy_since
        return since is not None and trio.current_time() - since > trust_s
