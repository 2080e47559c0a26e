"""`tallyd access add|list|revoke`: API keys, beside a running daemon or not."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from actors.access import CLI, AccessRuleError, in_force, mint
from actors.access_book import Act, ApiKey, Scope
from api.convert import format_instant, parse_instant
from daemon.clock import SystemClock
from daemon.config import add_flags, create_state_dir, flags_from, load_config
from daemon.store import access as table
from daemon.store.beside import write_beside

T = TypeVar("T")

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SOON = "A running daemon knows of it within two seconds."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    access = commands.add_parser("access", help="make, list and revoke API keys")
    actions = access.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = actions.add_parser("add", help="make a key; it is shown once")
    add_flags(command)
    command.add_argument("--name", required=True, help="whose it is, for people")
    command.add_argument(
        "--scope",
        required=True,
        action="append",
        help=f"what it may do: {', '.join(Scope)}; several with commas, or the option again",
    )
    command.add_argument("--user", metavar="ID", help="only this user exists for it")
    command.add_argument(
        "--expires",
        metavar="WHEN",
        help="an instant such as 2027-01-31T00:00:00Z, or a time from now such as 90d or 12h",
    )
    command.set_defaults(action=run_add)
    command = actions.add_parser("list", help="every key, by its prefix; never the key itself")
    add_flags(command)
    command.set_defaults(action=run_list)
    command = actions.add_parser("revoke", help="end a key for ever")
    add_flags(command)
    command.add_argument("prefix", metavar="PREFIX", help="the eight characters after tk_")
    command.set_defaults(action=run_revoke)


def run_add(arguments: argparse.Namespace) -> int:
    """Returns 0 and writes the key to standard output, or 1 if it cannot be made."""
    now_ms = SystemClock().now_ms()
    try:
        key, token = mint(
            name=arguments.name,
            scopes=[word.strip() for part in arguments.scope for word in part.split(",")],
            user_id=_user(arguments.user),
            expires_at_ms=_expiry(arguments.expires, now_ms),
            now_ms=now_ms,
        )
    except AccessRuleError as error:
        return _fail(str(error))
    act = _act("key.added", key.prefix, now_ms, _about(key))
    if not _write(arguments, partial(table.add_api_key_of_user, key=key, act=act)):
        return _fail(f"user: there is no user {key.user_id}; register the user first")
    print(f"API key {key.prefix}: {_about(key)}. {_SOON}", file=sys.stderr)
    print("Keep it now: only a hash of it is stored, so nobody can show it again.", file=sys.stderr)
    print(token)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Returns 0."""
    now_ms = SystemClock().now_ms()
    keys = _write(arguments, table.api_keys)
    rows = [("PREFIX", "STATE", "SCOPES", "USER", "CREATED", "EXPIRES", "LAST USED", "NAME")]
    rows += [
        (
            key.prefix,
            _state(key, now_ms),
            ",".join(sorted(key.scopes)) or "none",
            str(key.user_id or "all"),
            format_instant(key.created_at_ms),
            _instant(key.expires_at_ms),
            _instant(key.last_used_at_ms),
            key.name,
        )
        for key in keys
    ]
    for line in columns(rows):
        print(line)
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    """Returns 0, or 1 if there is no such key in force."""
    prefix = arguments.prefix.strip()
    if prefix.startswith("tk_"):
        # The whole key, or the start of it: what counts is between the underscores.
        prefix = prefix[3:].partition("_")[0]
    now_ms = SystemClock().now_ms()
    act = _act("key.revoked", prefix, now_ms)
    if not _write(arguments, partial(table.revoke_api_key, prefix=prefix, act=act)):
        return _fail(
            "there is no API key in force with this prefix; `tallyd access list` shows them"
        )
    print(f"API key {prefix} is revoked. {_SOON}")
    return 0


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows below each other, the last column as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _write(arguments: argparse.Namespace, run: Callable[..., T]) -> T:
    config = load_config(flags_from(arguments))
    create_state_dir(config.state_dir)
    return write_beside(config.database.url.reveal(), run)


def _user(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise AccessRuleError("user: give the user's id, a UUID of 36 characters") from None


def _expiry(text: str | None, now_ms: int) -> int | None:
    if text is None:
        return None
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_ms + int(span[1]) * _UNITS_MS[span[2]]
    try:
        return parse_instant(text)
    except ValueError:
        raise AccessRuleError(
            "expires: give an instant such as 2027-01-31T00:00:00Z, or a time from now such as 90d"
            " (s, m, h, d or w)"
        ) from None


def _act(act: str, prefix: str, now_ms: int, detail: str = "") -> Act:
    return Act(
        at_ms=now_ms, actor=CLI.actor, address=CLI.address, act=act, target=prefix, detail=detail
    )


def _about(key: ApiKey) -> str:
    whom = "every user" if key.user_id is None else f"user {key.user_id}"
    until = "for ever" if key.expires_at_ms is None else f"until {_instant(key.expires_at_ms)}"
    return f"{key.name!r} may {', '.join(sorted(key.scopes))}, for {whom}, {until}"


def _state(key: ApiKey, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return "revoked"
    return "in force" if in_force(key, now_ms=now_ms) else "expired"


def _instant(at_ms: int | None) -> str:
    return "never" if at_ms is None else format_instant(at_ms)


def _fail(reason: str) -> int:
    print(f"tallyd: {reason}", file=sys.stderr)
    return 1
