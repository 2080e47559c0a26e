"""`tallyd migrate`: bring the database to this version's schema, without starting the daemon."""

from __future__ import annotations

import argparse

from daemon.config import add_flags, create_state_dir, flags_from, load_config
from daemon.store import migrate


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "migrate", help="bring the database up to date (the daemon does it by itself)"
    )
    add_flags(command)
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0; raises PersistentError or TransientError, and then nothing has changed."""
    config = load_config(flags_from(arguments))
    create_state_dir(config.state_dir)
    url = config.database.url.reveal()
    revision = migrate.upgrade(url)
    print(f"{config.database.display}: schema {revision}")
    return 0
