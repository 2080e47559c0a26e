"""`tallyd wallets …`: the sets of keys and assets from which merchants' orders are paid."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from daemon.commands.access import columns
from daemon.commands.asking import RefusedError, ask, given_text, group
from daemon.config import Config

PAGE = 500
_SPAN = re.compile(r"([1-9][0-9]{0,6})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = group(
        commands,
        "wallets",
        "keys and assets for merchants' orders",
        one=("WALLET", "its number, the pg_wallet_id of orders"),
    )
    made = command("add", _add, "make a wallet; prints its number", of_one=False)
    made.add_argument("user", metavar="MERCHANT", help="the merchant's id")
    made.add_argument("--name", required=True, help="for people")
    _add_contents(made, "what can be asked for")
    made = command("list", _list, "wallets, archived ones too", of_one=False)
    made.add_argument("--user", metavar="ID", help="only this merchant's")
    command("show", _show, "one wallet, with what holds for its orders")
    made = command("change", _change, "change it for orders to come")
    made.add_argument("--name", help="for people")
    made.add_argument(
        "--without-key",
        action="append",
        default=[],
        metavar="CHAIN",
        help="take the chain's key out; may be repeated",
    )
    _add_contents(made, "what can be asked for: all of it anew")
    command("archive", _archive, "take no new orders with it")
    command("restore", _restore, "take orders with it again")


def _add_contents(made: argparse.ArgumentParser, assets: str) -> None:
    made.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="CHAIN=KEY",
        help="a public key (xmr: VIEW:SPEND); KEY may be - for a line of standard input, env:NAME"
        " for a variable; may be repeated",
    )
    made.add_argument(
        "--asset",
        action="append",
        default=[],
        metavar="ASSET[,confirmations=N][,expires=15m]",
        help=f"{assets}; may be repeated",
    )


def _add(config: Config, arguments: argparse.Namespace) -> int:
    path = f"/v1/users/{quote(arguments.user, safe='')}/wallets"
    made = ask(config, "POST", path, {"name": arguments.name, **_contents(arguments)})
    print(f"wallet {made['id']} ({made['name']}) is ready for orders", file=sys.stderr)
    print(made["id"])
    return 0


def _list(config: Config, arguments: argparse.Namespace) -> int:
    if arguments.user is not None:
        path = f"/v1/users/{quote(arguments.user, safe='')}/wallets"
        found = ask(config, "GET", path)["items"]
    else:
        found, after = [], None
        while True:
            asked = {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}
            page = ask(config, "GET", f"/v1/wallets?{urlencode(asked)}")
            found += page["items"]
            after = page["next"]
            if after is None:
                break
    for line in columns(wallet_rows(found)):
        print(line)
    return 0


def _show(config: Config, arguments: argparse.Namespace) -> int:
    return _print(ask(config, "GET", _path(arguments)))


def _change(config: Config, arguments: argparse.Namespace) -> int:
    body = _contents(arguments)
    if arguments.name is not None:
        body["name"] = arguments.name
    for chain in arguments.without_key:
        if chain in body.setdefault("keys", {}):
            raise RefusedError(f"key: that of {chain} is both given and taken out: do one of them")
        body["keys"][chain] = None
    if not body:
        raise RefusedError("nothing is to be changed: give --name, --key, --without-key or --asset")
    return _print(ask(config, "PATCH", _path(arguments), body))


def _archive(config: Config, arguments: argparse.Namespace) -> int:
    ask(config, "POST", _path(arguments, "/archive"))
    print(f"wallet {arguments.id} is archived: it takes no new orders")
    return 0


def _restore(config: Config, arguments: argparse.Namespace) -> int:
    ask(config, "POST", _path(arguments, "/restore"))
    print(f"wallet {arguments.id} takes orders again")
    return 0


def wallet_rows(wallets: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Wallets as rows of a table, with its heading."""
    rows: list[tuple[str, ...]] = [("WALLET", "STATE", "MERCHANT", "CHAINS", "ASSETS", "NAME")]
    rows += [
        (
            str(one["id"]),
            _state(one),
            one["user_id"],
            ",".join(one["chains"]) or "none",
            ",".join(asset["asset"] for asset in one["assets"]) or "none",
            one["name"],
        )
        for one in wallets
    ]
    return rows


def _print(wallet: dict[str, Any]) -> int:
    print(f"Wallet    {wallet['id']}, {wallet['name']}")
    print(f"State     {_state(wallet)}")
    print(f"Merchant  {wallet['user_id']}")
    print(f"Chains    {', '.join(wallet['chains']) or 'none'}")
    print()
    rows = [("ASSET", "CONFIRMATIONS", "TIME TO PAY")]
    rows += [
        (
            one["asset"],
            "default" if one["confirmations"] is None else str(one["confirmations"]),
            "default" if one["expires_in_s"] is None else f"{one['expires_in_s']} s",
        )
        for one in wallet["assets"]
    ]
    for line in columns(rows):
        print(line)
    return 0


def _state(wallet: dict[str, Any]) -> str:
    return "open" if wallet["archived_at"] is None else "archived"


def _path(arguments: argparse.Namespace, more: str = "") -> str:
    return f"/v1/wallets/{quote(arguments.id, safe='')}{more}"


def _contents(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keys and assets that were given, as the API takes them."""
    body: dict[str, Any] = {}
    if arguments.key:
        keys: dict[str, str] = {}
        for one in arguments.key:
            chain, equals, text = one.partition("=")
            if not equals:
                # Not repeated: what was forgotten may be all but the key.
                raise RefusedError("key: give CHAIN=KEY, such as btc=xpub…")
            if chain in keys:
                raise RefusedError(f"key: {chain} is given twice")
            keys[chain] = given_text(text)
        body["keys"] = keys
    if arguments.asset:
        body["assets"] = [_asset(one) for one in arguments.asset]
    return body


def _asset(text: str) -> dict[str, Any]:
    asset, *settings = text.split(",")
    found: dict[str, Any] = {"asset": asset}
    for one in settings:
        name, _, value = one.partition("=")
        span = _SPAN.fullmatch(value)
        if name == "confirmations" and value.isascii() and value.isdigit():
            found["confirmations"] = int(value)
        elif name == "expires" and span is not None:
            found["expires_in_s"] = int(span[1]) * _UNITS_S[span[2]]
        else:
            raise RefusedError(
                f"asset: {one!r} cannot be read; give ASSET, or ASSET,confirmations=2,expires=15m"
                " (s, m, h or d)"
            )
    return found
