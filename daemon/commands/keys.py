"""`tallyd keys preview`: look at keys before any money depends on them."""

from __future__ import annotations

import argparse
import sys

from actors.core.outcomes import KeyRefused
from daemon.commands.asking import given_text
from daemon.keys.preview import COINS, preview


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="look at public keys")
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = actions.add_parser("preview", help="the addresses that invoices would get")
    command.add_argument("coin", metavar="COIN", help=", ".join(COINS))
    command.add_argument(
        "key",
        metavar="KEY",
        help="the public key (Monero: the private view key); - reads standard input, env:NAME a"
        " variable",
    )
    command.add_argument(
        "spend_key", metavar="SPEND", nargs="?", help="Monero only: the public spend key"
    )
    command.add_argument("--network", help="only this network's form: main, test, regtest …")
    command.add_argument("--count", type=int, default=5, help="how many addresses (default 5)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0, or 1 if the key is refused."""
    key = given_text(arguments.key)
    if arguments.spend_key is not None:
        if arguments.coin.strip().upper() != "XMR":
            print("tallyd: only XMR takes two keys: COIN KEY", file=sys.stderr)
            return 1
        key = f"{key.strip()}:{given_text(arguments.spend_key)}"
    answer = preview(arguments.coin, key, network=arguments.network, count=arguments.count)
    if isinstance(answer, KeyRefused):
        print(f"tallyd: {answer.reason}", file=sys.stderr)
        return 1
    print(answer.json() if arguments.json else answer.render())
    return 0
