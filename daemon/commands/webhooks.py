"""`tallyd webhooks …`: endpoints of the running daemon."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from daemon.commands.access import columns
from daemon.commands.asking import ask, group
from daemon.config import Config

_KEEP = "Keep the secret now: it is stored sealed, and nobody can show it again."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = group(commands, "webhooks", "events sent to URLs", one=("ID", "the endpoint's id"))
    made = command("add", _add, "add an endpoint; its secret is shown once", of_one=False)
    made.add_argument("url", metavar="URL", help="where events are sent")
    made.add_argument("--user", metavar="ID", help="only this user's events")
    made.add_argument(
        "--type", action="append", default=[], help="only this kind of events; may be repeated"
    )
    made.add_argument(
        "--form",
        metavar="FORM",
        help="standard (default): events; payscrypt: the changes of orders' statuses",
    )
    made.add_argument("--from-start", action="store_true", help="begin with the oldest event")
    made = command("list", _list, "every endpoint, and how it is", of_one=False)
    made.add_argument("--user", metavar="ID", help="only this user's")
    command("pause", _pause, "send nothing until it is resumed")
    made = command("resume", _resume, "go on where it stopped")
    made.add_argument("--from-now", action="store_true", help="give up what it has not got")
    made = command("rotate", _rotate, "sign with a new secret, which is shown once")
    made.add_argument(
        "--overlap", type=int, metavar="SECONDS", help="how long both sign (default: a day)"
    )
    command("test", _test, "send a made-up event")
    command("remove", _remove, "remove it, with its log and what it has not got")
    made = command("log", _log, "what was sent, the newest first")
    made.add_argument("--limit", type=int, default=50, help="how many (default 50)")
    made.add_argument("--before", type=int, metavar="N", help="only those with a lower number")
    made.add_argument(
        "--backlog", choices=("waiting", "dead"), help="what it has not got, instead of the log"
    )
    made = command("redeliver", _redeliver, "send an event, or those of a time, again")
    made.add_argument("event", metavar="EVENT", nargs="?", help="the event's id")
    made.add_argument("--since", metavar="INSTANT", help="such as 2026-11-20T00:00:00Z")
    made.add_argument("--until", metavar="INSTANT")


def _path(arguments: argparse.Namespace, more: str = "") -> str:
    return f"/v1/webhooks/{quote(arguments.id, safe='')}{more}"


def _add(config: Config, arguments: argparse.Namespace) -> int:
    body: dict[str, object] = {"url": arguments.url, "types": arguments.type}
    if arguments.user is not None:
        body["user_id"] = arguments.user
    if arguments.form is not None:
        body["form"] = arguments.form
    if arguments.from_start:
        body["from_start"] = True
    _show_secret(ask(config, "POST", "/v1/webhooks", body))
    return 0


def _list(config: Config, arguments: argparse.Namespace) -> int:
    query = "" if arguments.user is None else f"?{urlencode({'user_id': arguments.user})}"
    rows = [("ID", "STATE", "FAILURES", "USER", "FORM", "TYPES", "URL")]
    rows += [
        (
            one["id"],
            one["state"] if one["paused"] is None else f"paused ({one['paused']})",
            str(one["failures"]),
            one["user_id"] or "all",
            one["form"],
            ",".join(one["types"]) or "all",
            one["url"],
        )
        for one in ask(config, "GET", f"/v1/webhooks{query}")["items"]
    ]
    return _print(rows)


def _pause(config: Config, arguments: argparse.Namespace) -> int:
    ask(config, "POST", _path(arguments, "/pause"))
    print(f"{arguments.id} is paused")
    return 0


def _resume(config: Config, arguments: argparse.Namespace) -> int:
    start = "now" if arguments.from_now else "cursor"
    ask(config, "POST", _path(arguments, "/resume"), {"from": start})
    print(f"{arguments.id} goes on")
    return 0


def _rotate(config: Config, arguments: argparse.Namespace) -> int:
    body = {} if arguments.overlap is None else {"overlap_s": arguments.overlap}
    _show_secret(ask(config, "POST", _path(arguments, "/rotate"), body))
    return 0


def _test(config: Config, arguments: argparse.Namespace) -> int:
    found = ask(config, "POST", _path(arguments, "/test"))
    if not found["delivered"]:
        print(f"tallyd: not delivered: {found['error']}", file=sys.stderr)
        return 1
    print(f"delivered: HTTP {found['status']} after {found['latency_ms']} ms")
    return 0


def _remove(config: Config, arguments: argparse.Namespace) -> int:
    ask(config, "DELETE", _path(arguments))
    print(f"{arguments.id} is removed")
    return 0


def _log(config: Config, arguments: argparse.Namespace) -> int:
    if arguments.backlog is not None:
        return _backlog(config, arguments)
    asked = {"limit": arguments.limit}
    if arguments.before is not None:
        asked["before"] = arguments.before
    rows = [("N", "AT", "EVENT", "TYPE", "TRY", "STATUS", "MS", "OUTCOME", "ERROR")]
    rows += [
        (
            str(one["id"]),
            one["at"],
            one["event_id"],
            one["type"],
            str(one["attempt"]),
            str(one["status"] or "-"),
            str(one["latency_ms"]),
            one["outcome"],
            one["error"] or "",
        )
        for one in ask(config, "GET", _path(arguments, f"/deliveries?{urlencode(asked)}"))["items"]
    ]
    return _print(rows)


def _backlog(config: Config, arguments: argparse.Namespace) -> int:
    query = urlencode({"state": arguments.backlog, "limit": arguments.limit})
    rows = [("SEQ", "HAPPENED", "ATTEMPTS", "NEXT", "ERROR")]
    rows += [
        (
            str(one["seq"] or "notice"),
            one["at"],
            str(one["attempts"]),
            one["next_at"] or "-",
            one["error"] or "",
        )
        for one in ask(config, "GET", _path(arguments, f"/backlog?{query}"))["items"]
    ]
    return _print(rows)


def _redeliver(config: Config, arguments: argparse.Namespace) -> int:
    given = {
        "event_id": arguments.event,
        "since": arguments.since,
        "until": arguments.until,
    }
    body = {name: value for name, value in given.items() if value is not None}
    count = ask(config, "POST", _path(arguments, "/redeliver"), body)["count"]
    print(f"{count} events will be sent again")
    return 0


def _show_secret(made: dict[str, Any]) -> None:
    """The secret alone on standard output, so that a script can take it."""
    print(f"endpoint {made['id']} ({made['url']}). {_KEEP}", file=sys.stderr)
    print(made["secret"])


def _print(rows: Sequence[Sequence[str]]) -> int:
    for line in columns(rows):
        print(line)
    return 0
