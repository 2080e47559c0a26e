"""`tallyd run`: the daemon itself."""

from __future__ import annotations

import argparse
from functools import partial

import trio

from daemon import logging, sdnotify
from daemon.config import add_flags, create_state_dir, flags_from, load_config


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("run", help="run the daemon (the default)")
    add_flags(command)
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 after an orderly stop; raises what kept the daemon from starting."""
    from daemon import app  # noqa: PLC0415 - a third of the start of every other command

    flags = flags_from(arguments)
    config = load_config(flags)
    output = logging.configure(
        level=config.log.level, format=config.log.format, file=config.log.file
    )
    create_state_dir(config.state_dir)
    log = logging.get_logger("daemon")
    for warning in config.warnings:
        log.warning(warning)
    notifier = sdnotify.notifier_from_environment()
    try:
        trio.run(
            partial(
                app.run,
                config,
                notifier=notifier,
                output=output,
                reread=lambda: load_config(flags),
            ),
            strict_exception_groups=True,
        )
    finally:
        notifier.close()
        output.close()
    return 0
