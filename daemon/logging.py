"""Structured logging: one line per event, in logfmt or JSON, safe to read and to keep.

A line can not be forged from inside a value (control characters are escaped), and keys and
credentials are taken out (`daemon.redaction`). On a journal (`$JOURNAL_STREAM`, systemd.exec(5)) a
line begins with its syslog priority as ``<6>`` (sd-daemon(3)) and bears no time: the journal has
its own. What goes through the standard library's logging comes out the same.

Writing blocks like any write to standard error does; nothing is queued that a crash could lose.
"""

import datetime as dt
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from daemon.redaction import redact, redact_text

Fields = Mapping[str, Any]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_OWN_KEYS = ("time", "level", "logger", "event")
_MAX_TEXT = 4096
_MAX_TRACEBACK = 16 * 1024
# Noisy by nature: what these say below warning is of use to their own developers only.
_QUIET = ("alembic", "hpack", "hypercorn", "sqlalchemy")


class Logger(Protocol):
    """What a component is given to log with; bound loggers carry fields of their own.

    `event` is a constant phrase and the facts are fields: ``log.info("chain ready", coin="btc")``.
    """

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...
    def exception(self, event: str, **fields: object) -> None:
        """Like `error`, with the exception that is being handled."""

    def bind(self, **fields: object) -> "Logger":
        """A logger that adds these fields to all its events."""


def get_logger(name: str, **fields: object) -> Logger:
    """A logger for the component `name`; it follows later calls of `configure` as well."""
    return _BoundLogger({"logger": name, **fields})


class _BoundLogger:
    """Looks the output up at each event: a logger made at import time must not write elsewhere."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def bind(self, **fields: object) -> "_BoundLogger":
        return _BoundLogger({**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        self._emit("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._emit("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._emit("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._emit("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        self._emit("error", event, {"exc_info": True, **fields})

    def _emit(self, level: str, event: str, fields: Fields) -> None:
        if _output.wants(level):
            _output.write(level, {**self._fields, **fields, "event": event})


class LogOutput:
    """Where the lines go; made by `configure`."""

    def __init__(
        self,
        *,
        level: str,
        render: Callable[[Fields], str],
        file: Path | None,
        stream: TextIO | None,
        journal: bool,
    ) -> None:
        self._lock = threading.Lock()
        self._render = render
        self._file = file
        self._journal = journal and file is None
        # The journal stamps lines itself; files and terminals do not.
        self._stamped = not self._journal
        self._stream = stream
        self._opened = self._open()
        self._threshold = LEVELS[level]
        self._lines = dict.fromkeys(LEVELS, 0)

    def set_level(self, level: str) -> None:
        """Takes effect with the next event, in every logger."""
        self._threshold = LEVELS[level]

    def statistics(self) -> Mapping[str, int]:
        """Lines written so far by level."""
        with self._lock:
            return dict(self._lines)

    def reopen(self) -> None:
        """Open the log file anew, after it was rotated away; nothing to do without a file.

        On OSError the old file stays in use.
        """
        if self._file is None:
            return
        fresh = self._open()
        with self._lock:
            old, self._opened = self._opened, fresh
        if old is not None:
            old.close()

    def close(self) -> None:
        """Stop writing to the file; later events go to standard error."""
        with self._lock:
            old, self._opened, self._file = self._opened, None, None
        if old is not None:
            old.close()

    def __enter__(self) -> "LogOutput":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wants(self, level: str) -> bool:
        return LEVELS[level] >= self._threshold

    def write(self, level: str, fields: Fields) -> None:
        """Write one event; `fields` are redacted here and nowhere else."""
        shown: dict[str, Any] = {}
        if self._stamped:
            shown["time"] = _now()
        shown["level"] = level
        for key in ("logger", "event"):
            if key in fields:
                shown[key] = _clip(redact_text(str(fields[key])), _MAX_TEXT)
        for key, value in fields.items():
            if key not in ("logger", "event", "exc_info"):
                name = _safe_key(key)
                # A field never takes the place of what the line itself says.
                shown[f"{name}_" if name in _OWN_KEYS else name] = redact(key, value)
        if (error := _exception(fields.get("exc_info"))) is not None:
            shown["error"] = _clip(redact_text(f"{type(error).__name__}: {error}"), _MAX_TEXT)
            # A traceback shows the values in messages of its causes, too: it passes the same net.
            whole = "".join(traceback.format_exception(error)).rstrip()
            shown["traceback"] = _clip(redact_text(whole), _MAX_TRACEBACK)
        prefix = f"<{_PRIORITIES[level]}>" if self._journal else ""
        line = f"{prefix}{self._render(shown)}\n"
        with self._lock:
            self._lines[level] += 1
            stream = self._opened or self._stream or sys.stderr
            try:
                stream.write(line)
                stream.flush()
            except OSError:
                # A full disk or a closed pipe must not end the daemon, and cannot be logged either.
                self._lines["lost"] = self._lines.get("lost", 0) + 1

    def _open(self) -> TextIO | None:
        if self._file is None:
            return None
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def configure(
    *,
    level: str = "info",
    format: str = "logfmt",  # noqa: A002 - the setting's name
    file: Path | None = None,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> LogOutput:
    """Send every logger's events, and the standard library's, to one output.

    `level` and `format` are those of the settings `log.level` and `log.format`. Without `file`
    lines go to `stream`, by default standard error as it is at the time of writing. Raises OSError
    when `file` can not be opened. May be called again: the last call counts.
    """
    output = LogOutput(
        level=level,
        render=_RENDERERS[format],
        file=file,
        stream=stream,
        journal=on_journal(stream or sys.stderr, os.environ if environ is None else environ),
    )

    global _output  # noqa: PLW0603 - standard error is one to a process, and so is this
    _output = output
    _route_stdlib(output)
    return output


def on_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is the very journal socket that `$JOURNAL_STREAM` (device:inode) names."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _StdlibHandler(logging.Handler):
    def __init__(self, output: LogOutput) -> None:
        super().__init__()
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for name, n in reversed(LEVELS.items()) if record.levelno >= n), "debug")
        if self.output.wants(level):
            fields = {
                "logger": record.name,
                "event": record.getMessage(),
                "exc_info": record.exc_info,
            }
            self.output.write(level, fields)


def _route_stdlib(output: LogOutput) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _StdlibHandler):
            root.removeHandler(handler)
    root.addHandler(_StdlibHandler(output))
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _exception(exc_info: object) -> BaseException | None:
    """The exception behind structlog's and logging's ways to pass one."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exception() if exc_info else None


def _now() -> str:
    now = dt.datetime.now(dt.UTC)
    return now.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _clip(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # The end of a traceback says what happened, the beginning where.
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"


_KEY = re.compile(r"[^A-Za-z0-9_.-]+")
_BARE = re.compile(r"[A-Za-z0-9_./:@%+*,~^<>()-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _safe_key(key: str) -> str:
    return _KEY.sub("_", key)[:80] or "_"


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    # isprintable is false for controls, line separators, bidirectional marks and lone surrogates.
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def _logfmt_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        text = _clip(value, _MAX_TRACEBACK + 100)
    else:
        text = _clip(json.dumps(value, ensure_ascii=False, default=str), _MAX_TEXT)
    if _BARE.fullmatch(text):
        return text
    return '"' + "".join(_escape(char) for char in text) + '"'


def render_logfmt(fields: Fields) -> str:
    """``key=value key="other value"``; quoted texts use JSON's escapes."""
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())


def render_json(fields: Fields) -> str:
    """One JSON object in ASCII; characters beyond it are escaped."""
    return json.dumps(dict(fields), ensure_ascii=True, default=str)


_RENDERERS: dict[str, Callable[[Fields], str]] = {"logfmt": render_logfmt, "json": render_json}

# Until `configure` is called, and for tests that never do.
_output = LogOutput(level="info", render=render_logfmt, file=None, stream=None, journal=False)
