"""A headless Chromium and the DevTools protocol, on a pipe: no port, no websocket, no library.

Calls block; one thread reads what the browser says. Nothing here knows of pages: see browser.py.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.process import ServerError
from tests.nodes.install import find, how_to_install

Json = dict[str, Any]
PATIENCE_S = 30.0
_FLAGS = (
    "--headless",
    # The pages are ours; and neither root nor a container has what the sandbox needs.
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--password-store=basic",
)
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
 <dir>{fonts}</dir>
 <cachedir>{cache}</cachedir>
 {aliases}
</fontconfig>
"""
_ALIASES = {
    "sans-serif": "DejaVu Sans",
    "system-ui": "DejaVu Sans",
    "serif": "DejaVu Serif",
    "monospace": "DejaVu Sans Mono",
}
_HAN = "WenQuanYi Micro Hei"


class DevToolsError(Exception):
    """The browser refused a call, or what it was to evaluate failed."""


class DevTools:
    """One browser process; use as a context manager. ``folder`` holds its profile and its log."""

    def __init__(self, folder: Path) -> None:
        program = find("chromium")
        fonts = find("fonts")
        if program is None or fonts is None:
            raise ServerError(how_to_install("chromium" if program is None else "fonts"))
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "chromium.log"
        self.news = threading.Condition()
        """Notified after each message, and held while listeners run."""
        self._writing = threading.Lock()
        """A long message takes many writes, and the reading thread tells things too."""
        self._numbers = itertools.count(1)
        self._answers: dict[int, Json] = {}
        self._listeners: dict[str, Callable[[str, Json], None]] = {}
        self._has_ended = False
        self._process, self._to, self._from = _spawn(program, fonts, folder, self.log)
        atexit.register(self.kill)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def call(
        self, method: str, *, session: str = "", timeout_s: float = PATIENCE_S, **params: Any
    ) -> Json:
        """Return the result; raises DevToolsError, and ServerError when no answer comes."""
        number = self.tell(method, session=session, **params)
        deadline = time.monotonic() + timeout_s
        with self.news:
            while number not in self._answers:
                left_s = deadline - time.monotonic()
                if self._has_ended or left_s < 0:
                    raise ServerError(f"Chromium gave no answer to {method}: {self.last_output()}")
                self.news.wait(left_s)
            answer = self._answers.pop(number)
        if "error" in answer:
            raise DevToolsError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def tell(self, method: str, *, session: str = "", **params: Any) -> int:
        """Send a call and wait for nothing; returns its number."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        with self._writing:
            _write(self._to, json.dumps(message).encode() + b"\0")
        return number

    def listen(self, session: str, listener: Callable[[str, Json], None]) -> None:
        """Have a session's events told, on the reading thread: the listener may tell, not call."""
        self._listeners[session] = listener

    def forget(self, session: str) -> None:
        self._listeners.pop(session, None)

    def last_output(self) -> str:
        return self.log.read_text(errors="replace")[-1500:].strip()

    def kill(self) -> None:
        """With its children, which are of its session."""
        atexit.unregister(self.kill)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._thread.join(PATIENCE_S)
        os.close(self._to)
        os.close(self._from)

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._from, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            with self.news:
                for message in messages:
                    self._take(json.loads(message))
                self.news.notify_all()
        with self.news:
            self._has_ended = True
            self.news.notify_all()

    def _take(self, message: Json) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        listener = self._listeners.get(message.get("sessionId", ""))
        if listener is not None:
            listener(message["method"], message["params"])


def _spawn(
    program: Path, fonts: Path, folder: Path, log: Path
) -> tuple[subprocess.Popen[bytes], int, int]:
    """Returns the process, what it reads from and what it writes to."""
    config = folder / "fonts.conf"
    config.write_text(_font_config(fonts, folder / "font-cache"))
    its_input, to = _pipe()
    source, its_output = _pipe()
    # Those must become its descriptors 3 and 4. Code between fork and exec could do it, which is
    # unsafe beside threads; so a program in between does.
    starter = [sys.executable, "-S", "-E", "-c", _START, str(its_input), str(its_output)]
    command = [*starter, str(program), *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    environment = {
        **os.environ,
        "FONTCONFIG_FILE": str(config),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "LANGUAGE": "en",
        "TZ": "UTC",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            pass_fds=(its_input, its_output), start_new_session=True,
        )  # fmt: skip
    os.close(its_input)
    os.close(its_output)
    return process, to, source


def _font_config(fonts: Path, cache: Path) -> str:
    aliases = "\n ".join(
        f"<alias binding='same'><family>{family}</family>"
        f"<prefer><family>{name}</family><family>{_HAN}</family></prefer></alias>"
        for family, name in _ALIASES.items()
    )
    return _FONTS.format(fonts=fonts / "usr/share/fonts", cache=cache, aliases=aliases)


def _pipe() -> tuple[int, int]:
    """Both ends clear of 3 and 4, which are set one after the other."""
    return tuple(_above(end) for end in os.pipe())  # type: ignore[return-value]


def _above(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)
    os.close(descriptor)
    return moved


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
