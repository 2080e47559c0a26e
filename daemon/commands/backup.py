"""`tallyd backup`: all that is stored, in one file, while the daemon runs or not."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from actors.ports import PersistentError
from daemon.clock import SystemClock
from daemon.commands.progress import Progress
from daemon.config import Config, add_flags, flags_from, load_config
from daemon.store.backup import back_up
from daemon.store.backup_file import Header
from daemon.store.log_walk import Break
from daemon.unlock import key_place

BROKEN = 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("backup", help="write all that is stored to a file")
    add_flags(command)
    command.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0, or BROKEN if the backup is written but the log's hash chain does not hold.

    Raises PersistentError or TransientError, and then there is no file.
    """
    config = load_config(flags_from(arguments))
    if arguments.file == "-":
        if sys.stdout.isatty():
            raise PersistentError("a backup is no text for a terminal: name a file, or use a pipe")
        header, broken = _back_up(config, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        header, broken = _to_file(config, Path(arguments.file))
    return _tell(config, arguments.file, header, broken)


def _to_file(config: Config, path: Path) -> tuple[Header, Break | None]:
    """Under another name until it is complete and on the disk; only its owner may read it."""
    if path.exists():
        raise PersistentError(f"{path} exists, and nothing is overwritten; name a new file")
    part = path.with_name(f"{path.name}.part")
    try:
        # Not open(): nobody else may read it at any moment.
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise PersistentError(
            f"{part} exists: another backup is being written to it, or one was cut short; remove it"
        ) from None
    except OSError as error:
        raise PersistentError(f"{part} cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as stream:
            found = _back_up(config, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise PersistentError(
            f"{path} cannot be written: {error.strerror}; no backup was made. Free some space, or"
            " name a file elsewhere"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return found


def _back_up(config: Config, stream: IO[bytes]) -> tuple[Header, Break | None]:
    with Progress() as progress:
        return back_up(
            config.database.url.reveal(),
            stream,
            now_ms=SystemClock().now_ms(),
            progress=progress,
        )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _tell(config: Config, file: str, header: Header, broken: Break | None) -> int:
    def say(text: str) -> None:
        print(text, file=sys.stderr)

    count = f"{header.count('events')} events of {header.count('invoices')} invoices"
    say(f"{'standard output' if file == '-' else file}: {count}, {header.rows} rows in all")
    say(f"newest: {header.tip}")
    say(
        f"NOT in it: the vault's key, {key_place(config)}. Keep a copy of it elsewhere: without it"
        " the view keys and webhook secrets in the backup cannot be read. Nor the configuration."
    )
    if broken is None:
        return 0
    say(
        f"tallyd: the hash chain of the log is broken: {broken.what}. The backup holds it as it is,"
        " and will not be restored; keep your older ones, and look with `tallyd audit --log`"
    )
    return BROKEN
