"""Each family of failure has its answer: exact delays, one log line each, never a hot loop."""

from collections.abc import Callable

import pytest
import trio

from actors.ports import PersistentError, TransientError
from actors.supervisor import Family, RestartPolicy, Supervisor, failures_of, family_of
from tests.helpers.recording_log import RecordingLog

POLICY = RestartPolicy(first_delay_s=1, max_delay_s=8, persistent_delay_s=30, healthy_after_s=60)


class Script:
    """An actor that runs for `lasts_s`, then fails as scripted; at the end it returns."""

    def __init__(self, *acts: tuple[float, BaseException]) -> None:
        self.acts = list(acts)
        self.starts: list[float] = []
        self.log = RecordingLog()
        self.told: list[tuple[Family, str]] = []
        self.supervisor = Supervisor(
            "test actor",
            self.run,
            log=self.log,
            policy=POLICY,
            on_failure=lambda family, text: self.told.append((family, text)),
        )

    async def run(self) -> None:
        self.starts.append(trio.current_time())
        if self.acts:
            lasts_s, error = self.acts.pop(0)
            await trio.sleep(lasts_s)
            raise error


def transient(times: int) -> list[tuple[float, BaseException]]:
    return [(0.0, TransientError("connection refused")) for _ in range(times)]


async def test_transient_failures_are_retried_with_doubling_delays_up_to_the_cap(autojump_clock):
    script = Script(*transient(7))
    await script.supervisor.run()
    assert script.starts == [0, 1, 3, 7, 15, 23, 31, 39]
    assert script.told == [(Family.TRANSIENT, "connection refused")] * 7
    lines = script.log.level("warning")
    assert [line.fields["retry_in_s"] for line in lines] == [1, 2, 4, 8, 8, 8, 8]
    assert [line.fields["failing_for_s"] for line in lines] == [0, 1, 3, 7, 15, 23, 31]
    assert {line.fields["reason"] for line in lines} == {"connection refused"}
    assert script.supervisor.statistics().restarts[Family.TRANSIENT] == 7
    assert script.supervisor.statistics().failing_since == 0
    assert script.supervisor.statistics().last_failure == "connection refused"


async def test_persistent_failures_are_looked_at_slowly_and_said_each_time(autojump_clock):
    script = Script(*[(0.0, PersistentError("wrong network"))] * 3)
    await script.supervisor.run()
    assert script.starts == [0, 30, 60, 90]
    assert len(script.log.of("persistent failure")) == 3


async def test_a_healthy_stretch_forgets_the_failures_before_it(autojump_clock):
    script = Script(*transient(3), (60.0, TransientError("again")), *transient(1))
    await script.supervisor.run()
    assert script.starts == [0, 1, 3, 7, 7 + 60 + 1, 68 + 2]


async def test_a_stretch_just_too_short_does_not(autojump_clock):
    script = Script(*transient(3), (59.0, TransientError("again")))
    await script.supervisor.run()
    assert script.starts == [0, 1, 3, 7, 7 + 59 + 8]


async def test_an_actor_that_says_that_it_works_starts_over(autojump_clock):
    script = Script(*transient(3))
    original = script.supervisor._run

    async def run() -> None:
        if len(script.starts) == 2:
            script.supervisor.healthy()
        await original()

    script.supervisor._run = run
    await script.supervisor.run()
    assert script.starts == [0, 1, 3, 4]


async def test_being_healthy_ends_the_row_of_failures(autojump_clock):
    script = Script(*transient(2))
    await script.supervisor.run()
    script.supervisor.healthy()
    assert script.supervisor.statistics().failing_since is None
    assert script.supervisor.statistics().last_failure is None


async def test_a_bug_is_reported_with_its_traceback_and_started_again(autojump_clock):
    bug = ZeroDivisionError("division by zero")
    script = Script((0.0, bug), (0.0, bug))
    await script.supervisor.run()
    assert script.starts == [0, 1, 3]
    lines = script.log.level("error")
    assert [line.fields["exc_info"] for line in lines] == [bug, bug]
    assert lines[0].fields["actor"] == "test actor"
    assert lines[0].fields["error"] == "ZeroDivisionError: division by zero"
    assert script.told == [(Family.BUG, "ZeroDivisionError: division by zero")] * 2


async def test_an_actor_that_returns_is_not_started_again(autojump_clock):
    script = Script()
    await script.supervisor.run()
    assert script.starts == [0]
    assert script.log.lines == []


async def test_cancellation_goes_through_while_running_and_while_waiting(autojump_clock):
    for after_s, starts in ((0.5, 1), (1.5, 2)):
        script = Script((1.0, TransientError("x")), (1.0, TransientError("x")))
        script.acts[0:0] = transient(1) if starts == 2 else []
        with trio.move_on_after(after_s) as scope:
            await script.supervisor.run()
        assert scope.cancelled_caught
        assert len(script.starts) == starts


async def test_what_is_no_exception_goes_through(autojump_clock):
    script = Script((0.0, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        await script.supervisor.run()


async def test_a_failure_during_shutdown_is_reported_and_does_not_leave_the_supervisor(
    autojump_clock,
):
    """A connection that breaks while it is closed must not turn a clean stop into a crash."""
    log = RecordingLog()

    async def run() -> None:
        async with trio.open_nursery() as nursery:

            async def child() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise TransientError("lost while closing")

            nursery.start_soon(child)
            await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        await Supervisor("closing", run, log=log, policy=POLICY).run()
    assert scope.cancelled_caught
    assert trio.current_time() == 1
    [line] = log.lines
    assert line.level == "warning"
    assert line.fields["reason"] == "lost while closing"


@pytest.mark.parametrize(
    ("error", "family", "text"),
    [
        (TransientError("t"), Family.TRANSIENT, "t"),
        (PersistentError("p"), Family.PERSISTENT, "p"),
        (KeyError("k"), Family.BUG, "KeyError: 'k'"),
        (ExceptionGroup("", [TransientError("t1"), TransientError("t2")]), Family.TRANSIENT, "t1"),
        (ExceptionGroup("", [TransientError("t"), PersistentError("p")]), Family.PERSISTENT, "p"),
        (
            ExceptionGroup("", [ExceptionGroup("", [TransientError("t")]), ValueError("v")]),
            Family.BUG,
            "TransientError: t; ValueError: v",
        ),
    ],
)
def test_the_worst_failure_of_a_group_decides(error: Exception, family: Family, text: str):
    assert family_of(error) == (family, text)


def test_a_group_is_taken_apart_at_any_depth():
    leaves = [ValueError(number) for number in range(3)]
    group = ExceptionGroup("", [leaves[0], ExceptionGroup("", [leaves[1], leaves[2]])])
    assert list(failures_of(group)) == leaves
    assert list(failures_of(leaves[0])) == [leaves[0]]


@pytest.mark.parametrize("kind", [TransientError, PersistentError, RuntimeError])
async def test_no_family_ends_in_a_hot_loop(autojump_clock, kind: Callable[[str], Exception]):
    script = Script(*[(0.0, kind("x"))] * 50)
    with trio.move_on_after(100):
        await script.supervisor.run()
    assert 1 < len(script.starts) <= 16


async def test_a_nudge_ends_the_delay_and_nothing_else(autojump_clock):
    script = Script(*[(0.0, PersistentError("wrong password"))] * 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script.supervisor.run)
        await trio.sleep(4)
        script.supervisor.nudge()
        await trio.sleep(1)
        script.supervisor.nudge()
    assert script.starts == [0, 4, 5]
    script.supervisor.nudge()
