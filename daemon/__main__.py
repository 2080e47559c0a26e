"""`tallyd`: the command line. Without a command it runs the daemon, as GoiPay's binary does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from actors.core.assets import CatalogueError
from actors.ports import PersistentError, TransientError
from actors.supervisor import failures_of
from daemon.commands import (
    access,
    audit,
    audit_trail,
    backup,
    check,
    invoice,
    keys,
    merchants,
    migrate,
    orders,
    restore,
    run,
    wallets,
    webhooks,
)
from daemon.config import ConfigError, add_flags

BAD_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: systemd does not start the unit again for it."""
INTERRUPTED = 130

EXPECTED = (ConfigError, CatalogueError, PersistentError, TransientError, OSError)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="tallyd",
        description="Self-hosted, watch-only crypto payment daemon.",
        epilog="Without a command: run.",
    )
    top.add_argument("--version", action="version", version=f"tallyd {version('tallyd')}")
    add_flags(top)
    top.set_defaults(action=run.run)
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for command in (run, check, keys, invoice, merchants, wallets, orders, access, webhooks):
        command.add(commands)
    for command in (audit, backup, restore, audit_trail, migrate):
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    chosen = parser().parse_args(arguments)
    try:
        status: int = chosen.action(chosen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`tallyd … | head`): there is nobody to say anything to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (*EXPECTED, ExceptionGroup) as error:
        failures = list(failures_of(error))
        if not all(isinstance(failure, EXPECTED) for failure in failures):
            raise
        for failure in failures:
            print(f"tallyd: {failure}", file=sys.stderr)
        configured = all(isinstance(one, (ConfigError, CatalogueError)) for one in failures)
        return BAD_CONFIGURATION if configured else 1
    return status


if __name__ == "__main__":
    sys.exit(main())
