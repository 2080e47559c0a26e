"""sd_notify against a real datagram socket."""

import os
import socket
import time

import pytest
import trio

from daemon.sdnotify import Notifier, notifier_from_environment, watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The receiving end, as systemd has it, and the value of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            name = str(tmp_path / "notify")
            receiver.bind(name)
        else:
            receiver.bind("")  # Linux chooses an abstract name.
            name = "@" + os.fsdecode(receiver.getsockname()[1:])
        receiver.setblocking(False)
        yield receiver, name


def test_messages(manager):
    receiver, name = manager
    notifier = notifier_from_environment({"NOTIFY_SOCKET": name})
    assert notifier.enabled
    assert notifier.watchdog_interval_s is None
    notifier.status("btc at 7")
    notifier.ready("serving")
    notifier.ready()
    notifier.ping()
    notifier.stopping("bye")
    got = [receiver.recv(4096) for _ in range(5)]
    assert got == [
        b"STATUS=btc at 7",
        b"READY=1\nSTATUS=serving",
        b"READY=1",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=bye",
    ]
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = receiver.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notifier.close()
    notifier.ping()
    assert notifier.lost == 0


def test_a_status_can_not_smuggle_an_assignment(manager):
    receiver, name = manager
    notifier = Notifier(name)
    notifier.status("node says\nREADY=1\r\x00" + "x" * 5000)
    (line,) = receiver.recv(65536).decode().split("\n")
    assert line.startswith("STATUS=node says READY=1  xx")
    assert len(line) == len("STATUS=") + 512
    notifier.close()


@pytest.mark.parametrize("name", ["", "/", "@", "relative", "vsock:2:1"])
def test_without_a_usable_socket_nothing_happens(name):
    notifier = notifier_from_environment({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    assert not notifier.enabled
    assert notifier.watchdog_interval_s is None
    notifier.ready("x")
    notifier.ping()
    notifier.close()
    assert notifier.lost == 0


def test_a_gone_or_full_socket_is_counted(tmp_path):
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready()
    assert notifier.lost == 1
    notifier.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "full"))
        notifier = Notifier(str(tmp_path / "full"))
        for _ in range(10_000):
            notifier.ping()
        assert notifier.lost > 0
        notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_interval(manager, environ, interval_s):
    notifier = notifier_from_environment({"NOTIFY_SOCKET": manager[1], **environ})
    assert notifier.watchdog_interval_s == interval_s
    notifier.close()


class _Recorder(Notifier):
    def __init__(self, watchdog_interval_s):
        super().__init__(None, watchdog_interval_s=watchdog_interval_s)
        self.pings = []

    def ping(self):
        self.pings.append(trio.current_time())


async def test_watchdog_pings_thrice_an_interval_while_healthy(autojump_clock):
    notifier = _Recorder(30.0)
    begun = trio.current_time()
    with trio.move_on_after(65):
        await watchdog(notifier, healthy=lambda: not 15 < trio.current_time() - begun < 45)
    assert [at - begun for at in notifier.pings] == [0, 10, 50, 60]


async def test_watchdog_sleeps_when_nobody_watches(autojump_clock):
    notifier = _Recorder(None)
    with trio.move_on_after(1000) as scope:
        await watchdog(notifier, healthy=lambda: True)
    assert scope.cancelled_caught
    assert notifier.pings == []
