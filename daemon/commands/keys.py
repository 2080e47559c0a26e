"""`tallyd keys preview`: look at a key before any money depends on it."""

from __future__ import annotations

import argparse
import sys

from actors.core.outcomes import KeyRefused
from daemon.keys.preview import preview


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="look at public keys")
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = actions.add_parser("preview", help="the addresses that invoices would get")
    command.add_argument("coin", metavar="COIN", help="BTC, LTC, ETH, BNB")
    command.add_argument("key", metavar="KEY", help="the public key; - reads standard input")
    command.add_argument("--network", help="only this network's form: main, test, regtest …")
    command.add_argument("--count", type=int, default=5, help="how many addresses (default 5)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0, or 1 if the key is refused."""
    # A key in the arguments ends up in the shell's history; standard input does not.
    key = sys.stdin.readline() if arguments.key == "-" else arguments.key
    answer = preview(arguments.coin, key, network=arguments.network, count=arguments.count)
    if isinstance(answer, KeyRefused):
        print(f"tallyd: {answer.reason}", file=sys.stderr)
        return 1
    print(answer.json() if arguments.json else answer.render())
    return 0
