"""`tallyd audit`: check what is stored, beside a running daemon or not; reads only."""

from __future__ import annotations

import argparse

from daemon.commands import audit_log
from daemon.config import add_flags


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("audit", help="check that what is stored is what happened")
    add_flags(command)
    audit_log.add_arguments(command)
    command.add_argument("--json", action="store_true", help="the findings as JSON")
    command.set_defaults(action=audit_log.run)
