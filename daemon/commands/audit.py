"""`tallyd audit`: check what is stored, beside a running daemon or not; reads only."""

from __future__ import annotations

import argparse

from daemon.commands import audit_chain, audit_log
from daemon.config import add_flags


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "audit", help="check that what is stored is what happened on the chains"
    )
    add_flags(command)
    audit_log.add_arguments(command)
    audit_chain.add_arguments(command)
    command.add_argument("--json", action="store_true", help="the findings as JSON")
    command.set_defaults(action=run, refuse=command.error)


def run(arguments: argparse.Namespace) -> int:
    """Look at the chains, or with `--log` at the event log."""
    of_chains = [
        f"--{name}"
        for name in ("coin", "since", "until", "user", "node")
        if getattr(arguments, name) not in (None, [])
    ]
    if arguments.log and of_chains:
        arguments.refuse(f"--log looks at the whole log: leave out {', '.join(of_chains)}")
    if not arguments.log and arguments.anchor is not None:
        arguments.refuse("--anchor is for the log: add --log")
    return audit_log.run(arguments) if arguments.log else audit_chain.run(arguments)
