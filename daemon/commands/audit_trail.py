"""`tallyd audit-trail`: who did what to the daemon, the newest act first."""

from __future__ import annotations

import argparse

import trio

from actors.access_book import RecordedAct
from api.convert import format_instant
from daemon.commands.access import columns
from daemon.config import Config, add_flags, flags_from, load_config
from daemon.store import read_store

LIMIT = 50
MOST = 10_000


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("audit-trail", help="administrative acts, the newest first")
    add_flags(command)
    command.add_argument(
        "--limit", type=int, default=LIMIT, help=f"how many, {MOST} at most (default {LIMIT})"
    )
    command.add_argument("--before", type=int, metavar="ID", help="only those with a lower id")
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0; reads only, beside a running daemon or not."""
    config = load_config(flags_from(arguments))
    limit = min(MOST, max(1, arguments.limit))
    found = trio.run(_read, config, arguments.before, limit)
    rows = [("ID", "AT", "WHO", "FROM", "ACT", "TARGET", "DETAIL")]
    rows += [
        (
            str(one.id),
            format_instant(one.act.at_ms),
            one.act.actor,
            one.act.address,
            one.act.act,
            one.act.target,
            one.act.detail,
        )
        for one in found
    ]
    for line in columns(rows):
        print(line)
    return 0


async def _read(config: Config, before: int | None, limit: int) -> tuple[RecordedAct, ...]:
    async with read_store(config.database.url.reveal()) as store:
        return await store.acts(before=before, limit=limit)
