"""Restart policy: run something for ever, and answer each family of failure in its own way.

A transient failure is retried soon, a persistent one slowly, both with a warning each time, so that
the newest lines of the log always say what is wrong. A bug is reported with its traceback and the
actor starts again from what is durable. Delays double up to a cap and start over after a healthy
stretch; failures that come in quick succession therefore end at the cap, never in a hot loop.

This is one of the few places that may catch `Exception` (see `failures_of`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

import trio

from actors.ports import Log, PersistentError, TransientError


class Family(Enum):
    TRANSIENT = "transient"
    PERSISTENT = "persistent"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Delays in seconds before the next attempt."""

    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    persistent_delay_s: float = 30.0
    """What only a person can mend is looked at this often."""
    healthy_after_s: float = 60.0
    """An attempt that lasted this long forgets the failures before it."""


@dataclass(slots=True)
class SupervisorStatistics:
    restarts: dict[Family, int] = field(default_factory=lambda: dict.fromkeys(Family, 0))
    failing_since: float | None = None
    """`trio.current_time` of the first failure in the present row of failures."""
    last_failure: str | None = None


def failures_of(error: BaseException) -> Iterator[BaseException]:
    """The single failures in an exception or, at any depth, in an exception group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from failures_of(inner)
    else:
        yield error


def family_of(error: Exception) -> tuple[Family, str]:
    """The worst family among the failures, and a text for people."""
    leaves = list(failures_of(error))
    for kind, family in ((PersistentError, Family.PERSISTENT), (TransientError, Family.TRANSIENT)):
        expected = [leaf for leaf in leaves if isinstance(leaf, kind)]
        others = [
            leaf for leaf in leaves if not isinstance(leaf, (PersistentError, TransientError))
        ]
        if expected and not others:
            return family, str(expected[0])
    return Family.BUG, "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)


class Supervisor:
    """Runs one actor again and again until cancelled."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        log: Log,
        policy: RestartPolicy | None = None,
        on_failure: Callable[[Family, str], None] = lambda _family, _text: None,
    ) -> None:
        """`on_failure` is told of each failure before the delay; it must not block or fail."""
        self._name = name
        self._run = run
        self._log = log
        self._policy = policy or RestartPolicy()
        self._on_failure = on_failure
        self._statistics = SupervisorStatistics()
        self._nudge = trio.Event()
        self._delay_s = self._policy.first_delay_s

    async def run(self) -> None:
        """Run the actor; returns only when the actor returns by itself."""
        while True:
            started = trio.current_time()
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 - the supervisor is this boundary
                family, text = family_of(error)
                await self._recover(family, text, error, lasted_s=trio.current_time() - started)
            except BaseExceptionGroup as group:
                cancelled, failed = group.split(trio.Cancelled)
                if cancelled is None or not isinstance(failed, ExceptionGroup):
                    raise
                # What breaks while it is being closed must not turn a clean stop into a crash.
                family, text = family_of(failed)
                trace = {"exc_info": failed} if family is Family.BUG else {}
                self._log.warning(
                    "a failure while stopping", actor=self._name, reason=text, **trace
                )
                raise cancelled from None
            else:
                return

    def statistics(self) -> SupervisorStatistics:
        return self._statistics

    def nudge(self) -> None:
        """Try again now rather than at the end of the delay: somebody has mended something."""
        self._nudge.set()

    def healthy(self) -> None:
        """The actor says that it works: the present row of failures is over."""
        self._statistics.failing_since = None
        self._statistics.last_failure = None
        self._delay_s = self._policy.first_delay_s

    async def _recover(
        self, family: Family, text: str, error: Exception, *, lasted_s: float
    ) -> None:
        statistics, policy = self._statistics, self._policy
        statistics.restarts[family] += 1
        statistics.last_failure = text
        if statistics.failing_since is None or lasted_s >= policy.healthy_after_s:
            statistics.failing_since = trio.current_time()
            self._delay_s = policy.first_delay_s
        delay_s = policy.persistent_delay_s if family is Family.PERSISTENT else self._delay_s
        self._delay_s = min(policy.max_delay_s, self._delay_s * 2)
        self._on_failure(family, text)
        failing_for_s = round(trio.current_time() - statistics.failing_since)
        if family is Family.BUG:
            self._log.error(
                "actor crashed and starts again",
                actor=self._name,
                error=text,
                retry_in_s=delay_s,
                exc_info=error,
            )
        else:
            self._log.warning(
                f"{family.value} failure, trying again",
                actor=self._name,
                reason=text,
                failing_for_s=failing_for_s,
                retry_in_s=delay_s,
            )
        self._nudge = trio.Event()
        with trio.move_on_after(delay_s):
            await self._nudge.wait()
