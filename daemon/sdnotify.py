"""Tells systemd how the daemon is doing: sd_notify(3) without libsystemd.

Without `$NOTIFY_SOCKET` everything here does nothing, so the daemon runs the same in a terminal.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

import trio

_MAX_STATUS = 512


class Notifier:
    """Sends state changes as datagrams; never blocks and never raises for what systemd does.

    Not to be shared between threads.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_interval_s: float | None = None,
    ) -> None:
        self._socket: socket.socket | None = None
        self._address: str | bytes = ""
        self._lost = 0
        self.watchdog_interval_s = watchdog_interval_s
        """How often systemd wants to hear from us, in seconds; None when it does not watch."""
        if address:
            # A leading @ stands for the NUL byte of Linux's abstract socket names (unix(7)).
            self._address = b"\0" + os.fsencode(address[1:]) if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # noqa: FBT003 - no keyword exists

    @property
    def enabled(self) -> bool:
        return self._socket is not None

    @property
    def lost(self) -> int:
        """Messages that could not be handed over."""
        return self._lost

    def ready(self, status: str = "") -> None:
        """Start-up or a reload is complete."""
        self._send("READY=1", *self._status_lines(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*self._status_lines(text))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. The time is what systemd 253 and later ask for."""
        # systemd compares it with CLOCK_MONOTONIC, which is what time.monotonic_ns reads on Linux.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """Shutdown begins."""
        self._send("STOPPING=1", *self._status_lines(status))

    def ping(self) -> None:
        """We are alive (WATCHDOG=1)."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _status_lines(self, text: str) -> list[str]:
        # A line break would begin a new assignment: text from a node must not say READY=1.
        line = "".join(char if char.isprintable() else " " for char in text)[:_MAX_STATUS]
        return [f"STATUS={line}"] if line else []

    def _send(self, *lines: str) -> None:
        if self._socket is None or not lines:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError:
            # Full or gone: the watchdog is there for the first, and nobody listens in the second.
            self._lost += 1


def notifier_from_environment(environ: Mapping[str, str] | None = None) -> Notifier:
    """A notifier set up by `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`."""
    environ = os.environ if environ is None else environ
    address = environ.get("NOTIFY_SOCKET", "")
    # Other address families (vsock) are not for services on the same machine.
    usable = address[:1] in ("/", "@") and len(address) > 1
    return Notifier(
        address if usable else None,
        watchdog_interval_s=_watchdog_interval_s(environ) if usable else None,
    )


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None  # Meant for our parent.
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 else None


async def watchdog(notifier: Notifier, *, healthy: Callable[[], bool]) -> None:
    """Ping systemd for as long as the event loop turns and `healthy` says yes; never returns.

    It runs as a task like any other: a loop that hangs is not pinged for, and systemd restarts the
    daemon. Pings three times within the interval. Does nothing but sleep when nobody watches.
    """
    interval_s = notifier.watchdog_interval_s
    while interval_s is not None:
        if healthy():
            notifier.ping()
        await trio.sleep(interval_s / 3)
    await trio.sleep_forever()
