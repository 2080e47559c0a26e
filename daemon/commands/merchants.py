"""`tallyd merchants …`: merchants of the running daemon, and how their payment pages look."""

from __future__ import annotations

import argparse
import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from daemon.commands.access import columns
from daemon.commands.asking import RefusedError, ask, group
from daemon.commands.wallets import wallet_rows
from daemon.config import Config

PAGE = 500
MAX_LOGO_BYTES = 32 * 1024
"""More is not read: the daemon says that it is too much, and a file may be any size."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = group(commands, "merchants", "who takes orders")
    made = command("add", _add, "register a merchant; prints its id")
    made.add_argument("--name", help="its name on payment pages")
    made.add_argument("--id", metavar="ID", help="a UUID of your own (default: a new one)")
    command("list", _list, "every merchant, and its name")
    made = command("show", _show, "its brand, wallets, API keys and webhooks")
    made.add_argument("id", metavar="ID", help="the merchant's id")
    made = command("brand", _brand, "show or change name, colour and logo on payment pages")
    made.add_argument("id", metavar="ID", help="the merchant's id")
    made.add_argument("--name", help="as customers know it")
    made.add_argument("--colour", metavar="#RRGGBB", help="the page's accent")
    made.add_argument(
        "--logo", metavar="FILE", help="PNG, JPEG, WebP or GIF up to 32 KB, 2048 pixels a side"
    )
    made.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("name", "colour", "logo"),
        help="remove it; may be repeated",
    )


def _add(config: Config, arguments: argparse.Namespace) -> int:
    body = {} if arguments.id is None else {"id": arguments.id}
    user_id = ask(config, "POST", "/v1/users", body)["id"]
    print(f"merchant {user_id} is registered", file=sys.stderr)
    if arguments.name is not None:
        try:
            ask(config, "PUT", _path(user_id), {"name": arguments.name})
        except RefusedError as error:
            raise RefusedError(
                f"{error} The merchant is registered all the same; name it with `tallyd merchants"
                f" brand {user_id} --name …`"
            ) from None
    print(user_id)
    return 0


def _list(config: Config, arguments: argparse.Namespace) -> int:
    del arguments  # there is nothing to choose
    after: str | None = ""
    print(f"{'ID':<36}  NAME")
    while after is not None:
        asked = {"limit": str(PAGE), **({"after": after} if after else {})}
        page = ask(config, "GET", f"/v1/users?{urlencode(asked)}")
        for one in page["items"]:
            print(f"{one['id']}  {one['name'] or ''}".rstrip())
        after = page["next"]
    return 0


def _show(config: Config, arguments: argparse.Namespace) -> int:
    user = quote(arguments.id, safe="")
    brand = ask(config, "GET", _path(arguments.id))
    query = urlencode({"user_id": arguments.id})
    wallets = ask(config, "GET", f"/v1/users/{user}/wallets")["items"]
    keys = ask(config, "GET", f"/v1/keys?{query}&limit={PAGE}")["items"]
    webhooks = ask(config, "GET", f"/v1/webhooks?{query}")["items"]
    _print_brand(brand)
    _print("Wallets", wallet_rows(wallets))
    key_rows = [(one["prefix"], one["state"], ",".join(one["scopes"]), one["name"]) for one in keys]
    _print("API keys", [("PREFIX", "STATE", "SCOPES", "NAME"), *key_rows])
    hook_rows = [(one["id"], one["state"], one.get("form", ""), one["url"]) for one in webhooks]
    _print("Webhooks", [("ID", "STATE", "FORM", "URL"), *hook_rows])
    return 0


def _brand(config: Config, arguments: argparse.Namespace) -> int:
    path = _path(arguments.id)
    given = {"name": arguments.name, "colour": arguments.colour, "logo": _logo(arguments.logo)}
    change = {name: value for name, value in given.items() if value is not None}
    twice = set(change) & set(arguments.without)
    if twice:
        raise RefusedError(f"{min(twice)} is both given and removed: do one of them")
    before = ask(config, "GET", path)
    if change or arguments.without:
        kept = {name: before[name] for name in given if name not in arguments.without}
        before = ask(config, "PUT", path, {**kept, **change})
    _print_brand(before)
    return 0


def _logo(file: str | None) -> str | None:
    if file is None:
        return None
    with Path(file).open("rb") as opened:
        data = opened.read(MAX_LOGO_BYTES + 1)
    if len(data) > MAX_LOGO_BYTES:
        raise RefusedError(f"logo: {file} has more than {MAX_LOGO_BYTES} bytes (32 KB)")
    return b64encode(data).decode()


def _path(user_id: str) -> str:
    return f"/v1/users/{quote(user_id, safe='')}/brand"


def _print_brand(brand: dict[str, Any]) -> None:
    logo = "none"
    if brand["logo"] is not None:
        logo = f"{brand['logo_type']}, {len(brand['logo']) * 3 // 4} bytes"
    print(f"Name    {brand['name'] or 'none'}")
    print(f"Colour  {brand['colour'] or 'none'}")
    print(f"Logo    {logo}")


def _print(title: str, rows: Sequence[Sequence[str]]) -> None:
    print()
    print(title)
    for line in columns(rows) if len(rows) > 1 else ["none"]:
        print(f"  {line}")
