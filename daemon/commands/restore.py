"""`tallyd restore`: make an empty database what it was when a backup was made."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from actors.access import CLI
from actors.access_book import Act
from actors.ports import PersistentError
from api.convert import format_instant
from daemon.clock import SystemClock
from daemon.commands.progress import Progress
from daemon.config import add_flags, create_state_dir, flags_from, load_config
from daemon.store.restore import MAX_SKIP, SKIP_INDICES, Restored, restore
from daemon.unlock import key_place


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("restore", help="read a backup into an empty database")
    add_flags(command)
    command.add_argument("file", metavar="FILE", help="what `tallyd backup` has written")
    command.add_argument(
        "--skip-indices",
        type=_count,
        default=SKIP_INDICES,
        metavar="N",
        help="addresses per key that may have been given out since the backup and are not given"
        f" out again (default {SKIP_INDICES}; 0 if surely none were)",
    )
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0; raises PersistentError or TransientError, and then nothing was written."""
    if arguments.file == "-":
        raise PersistentError("a backup is read twice, first to see that it is whole: name a file")
    config = load_config(flags_from(arguments))
    create_state_dir(config.state_dir)
    now_ms = SystemClock().now_ms()
    file = Path(arguments.file)
    act = Act(
        at_ms=now_ms,
        actor=CLI.actor,
        address=CLI.address,
        act="database.restored",
        target=file.name,
        detail=f"{arguments.skip_indices} indices per account left out",
    )
    with Progress() as progress:
        done = restore(
            file,
            config.database.url.reveal(),
            skip_indices=arguments.skip_indices,
            act=act,
            progress=progress,
        )
    header = done.header
    count = f"{header.count('events')} events of {header.count('invoices')} invoices"
    print(f"{config.database.display}: {count}, as of {format_instant(header.made_at_ms)}")
    print(f"newest: {header.tip}")
    for line in _advice(done, arguments.skip_indices):
        print(line)
    print(f"The vault's key must be the one of then: {key_place(config)}.")
    return 0


def _advice(done: Restored, skipped: int) -> Iterator[str]:
    yield (
        f"The log goes on under the id {done.names.current} (before: {done.header.log_id}): readers"
        " that had later events are refused, and told where to read again."
    )
    yield (
        f"New invoices leave out {skipped} addresses of each key: they may have been given out"
        " since the backup. A wallet that looks for payments must look that far."
    )
    yield (
        "API keys that were revoked since are valid again: `tallyd access list`. Invoices made"
        " since are not known."
    )
    yield "Start the daemon: it reads every block since the backup."


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if not 0 <= count <= MAX_SKIP:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MAX_SKIP}")
    return count
