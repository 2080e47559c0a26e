"""Servers started as child processes by tests and the demo, and waiting for them."""

import atexit
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_POLL_INTERVAL_S = 0.02


class ServerError(Exception):
    """A server did not start, stop or reach a state; the message ends with its last output."""


def wait_until(probe: Callable[[], T | None], what: str, *, timeout_s: float = 30.0) -> T:
    """Call ``probe`` until it returns something true, and return that.

    Raises ServerError naming ``what`` after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise ServerError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(_POLL_INTERVAL_S)
    return answer


class ServerProcess:
    """One child process with its output in a file; killed at the latest when Python exits.

    It runs in a session of its own: Ctrl-C in a terminal reaches the parent alone, which then
    stops things in its own order.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        self._log = log
        self._name = Path(command[0]).name
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=None if env is None else dict(env),
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                start_new_session=True,
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """As subprocess has it: negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, request: signal.Signals) -> None:
        self._process.send_signal(request)

    def wait_ready(self, probe: Callable[[], T | None], *, timeout_s: float = 60.0) -> T:
        """Wait until ``probe`` returns something true; raises ServerError if the server ends."""

        def check() -> T | None:
            if not self.is_running:
                raise ServerError(f"{self._name} ended while starting: {self.last_output()}")
            return probe()

        try:
            return wait_until(check, f"{self._name} answers", timeout_s=timeout_s)
        except ServerError as error:
            self.kill()
            raise ServerError(f"{error}\n{self.last_output()}") from None

    def last_output(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")[-1500:].strip()
        return ""

    def stop(self, *, request: signal.Signals | None, grace_s: float) -> bool:
        """Send ``request`` (None: it was asked otherwise), wait, and kill after ``grace_s``.

        Returns whether it ended by itself.
        """
        if request is not None and self.is_running:
            self._process.send_signal(request)
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        atexit.unregister(self.kill)
        return True

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, as in a power cut."""
        self._process.kill()
        self._process.wait()
        atexit.unregister(self.kill)
