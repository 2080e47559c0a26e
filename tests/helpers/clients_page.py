"""The programs of docs/clients.md, run as they stand there."""

from __future__ import annotations

import contextlib
import http
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers.daemon import ROOT, Daemon
from tests.helpers.process import wait_until
from tests.nodes.install import DEFAULT_DEST, find
from tests.nodes.npm import find_runtime

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|js|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECTIONS = {
    heading: BLOCK.findall(text)
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
Row = tuple[int, str, str, Any]


class Program:
    """One of the page's programs in a folder of its own; whoever starts it must kill it."""

    def __init__(
        self, heading: str, folder: Path, env: dict[str, str], aim: dict[str, str]
    ) -> None:
        *before, (language, text) = SECTIONS[heading]
        self.folder = folder / re.sub(r"\W+", "-", heading)
        self.folder.mkdir()
        (self.folder / "proto").symlink_to(ROOT / "proto")
        for written, meant in aim.items():
            text = text.replace(written, meant)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._env = {**inherited, "PYTHONPATH": str(ROOT), **env}
        if language == "js":
            self._env["NODE_PATH"] = str(find("grpc-js") / "node_modules")
        self._command = command(language, text)
        self._process: subprocess.Popen[bytes] | None = None
        for language_before, preparation in before:
            words = command(language_before, preparation.replace("python3 ", f"{sys.executable} "))
            subprocess.run(words, cwd=self.folder, env=self._env, check=True)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def start(self) -> None:
        assert self._process is None
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, with the children of a shell."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def check_runs(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.output

    def wait(self) -> int:
        """Until it ends by itself; returns its status."""
        assert self._process is not None
        status = self._process.wait(30)
        self._process = None
        return status


def command(language: str, text: str) -> list[str]:
    if language == "python":
        return [sys.executable, "-u", "-c", text]
    if language == "js":
        runtime = find_runtime(DEFAULT_DEST)
        assert runtime is not None
        return [str(runtime.node), "-e", text]
    return ["sh", "-c", text]


# --- what the programs have kept ------------------------------------------------------------------


def from_books(folder: Path) -> list[Row]:
    with contextlib.closing(sqlite3.connect(folder / "books.db")) as books:
        try:
            rows = books.execute("SELECT seq, id, type, data FROM events ORDER BY rowid").fetchall()
        except sqlite3.OperationalError:
            return []
    return [(seq, event_id, kind, json.loads(data)) for seq, event_id, kind, data in rows]


def from_lines(folder: Path) -> list[Row]:
    events = map(json.loads, whole_lines(folder / "events.jsonl"))
    return [(one["seq"], one["id"], one["type"], json.loads(one["data"])) for one in events]


def from_words(folder: Path) -> list[Row]:
    found = []
    for line in whole_lines(folder / "events.txt"):
        event_id, _, text = line.partition(" ")
        event = json.loads(text)
        assert event["id"] == event_id
        found.append((event["seq"], event_id, event["type"], event["data"]))
    return found


def whole_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


# --- how they find a test's daemon ----------------------------------------------------------------


def aim_at(daemon: Daemon) -> dict[str, str]:
    """What stands on the page, and what to put there."""
    return {
        '"127.0.0.1", 3000': f'"127.0.0.1", {daemon.grpc_port}',
        "127.0.0.1:3000": f"127.0.0.1:{daemon.grpc_port}",
        "http://127.0.0.1:8080": daemon.url,
    }


def api_key(daemon: Daemon) -> str:
    """A new key that may do everything, and that the daemon knows of."""
    made = daemon.command("access", "add", "--name", "shop", "--scope", "admin")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    shown = {"Authorization": f"Bearer {key}"}
    wait_until(
        lambda: daemon.http("GET", "/v1/assets", headers=shown)[0] == http.HTTPStatus.OK,
        "the daemon knows the key",
    )
    return key
