"""How a command asks the running daemon: by its REST API, with a key for the moment if need be.

Whoever may write to the database may make API keys, so nothing is gained by asking such a person
for one: a key that lasts for a minute is made and revoked again, and the trail says so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from actors.access import CLI, mint
from actors.access_book import Act, Scope
from actors.ports import TransientError
from daemon.clock import SystemClock
from daemon.config import Config, add_flags, flags_from, load_config
from daemon.store import access as table
from daemon.store.beside import write_beside

ANSWER_WITHIN_S = 30.0
KEY_VARIABLE = "TALLYD_API_KEY"
"""A key to be used instead of one that is made."""
KEY_LIFE_MS = 60_000
_KNOWN_WITHIN_S = 6.0
_LOOKS_EVERY_S = 1.3
"""A little more than a running daemon waits before it looks for new keys."""
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - told apart, not bound
_UNAUTHENTICATED = 401


Action = Callable[[Config, argparse.Namespace], int]


class RefusedError(Exception):
    """The daemon said no; the text is for people."""


def run_asking(action: Action, arguments: argparse.Namespace) -> int:
    """Returns the action's status, or 1 if the daemon refuses; raises TransientError when none
    answers."""
    try:
        return action(load_config(flags_from(arguments)), arguments)
    except RefusedError as error:
        print(f"tallyd: {error}", file=sys.stderr)
        return 1


def group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    about: str,
    *,
    one: tuple[str, str] | None = None,
) -> Callable[..., argparse.ArgumentParser]:
    """Commands of one noun that ask the running daemon.

    Returns what adds one: (its name, its action, what it does). With `one`, (metavar, help) of the
    id that it is about comes first, unless it is added with `of_one=False`.
    """
    parser = commands.add_parser(name, help=f"{about}; needs a running daemon")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, action: Action, about: str, *, of_one: bool = True
    ) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=about)
        add_flags(made)
        if one is not None and of_one:
            made.add_argument("id", metavar=one[0], help=one[1])
        made.set_defaults(action=lambda arguments: run_asking(action, arguments))
        return made

    return command


def given_text(argument: str) -> str:
    """The text that an argument is, or names: `-` for a line of standard input, `env:NAME`.

    What stands among the arguments ends up in the shell's history and in the list of processes;
    what comes from standard input or a variable does not.
    """
    if argument == "-":
        return sys.stdin.readline().strip()
    name = argument.removeprefix("env:")
    return argument if name == argument else os.environ.get(name, "")


def ask(config: Config, method: str, path: str, body: object = None) -> Any:
    """The JSON that the daemon answers; None where it answers nothing.

    Raises RefusedError, or TransientError when no daemon answers.
    """
    status, document = _request(config, method, path, body, os.environ.get(KEY_VARIABLE))
    if status == _UNAUTHENTICATED and KEY_VARIABLE not in os.environ:
        with _key_for_the_moment(config) as key:
            give_up_s = time.monotonic() + _KNOWN_WITHIN_S
            while status == _UNAUTHENTICATED and time.monotonic() < give_up_s:
                # Not sooner: a key that is not known yet counts as a failed attempt.
                time.sleep(_LOOKS_EVERY_S)
                status, document = _request(config, method, path, body, key)
    if status < 400:
        return document
    raise RefusedError(_why(document))


def _request(
    config: Config, method: str, path: str, body: object, key: str | None
) -> tuple[int, Any]:
    host = _ANY.get(config.http.host, config.http.host)
    connection = http.client.HTTPConnection(host, config.http.port, timeout=ANSWER_WITHIN_S)
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    content = None if body is None else json.dumps(body).encode()
    try:
        with closing(connection):
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            data = response.read()
            return response.status, json.loads(data) if data else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransientError(
            f"no daemon answers on {host}:{config.http.port} (http.host, http.port): {error};"
            " start it, or give this command its configuration"
        ) from error


@contextmanager
def _key_for_the_moment(config: Config) -> Iterator[str]:
    now_ms = SystemClock().now_ms()
    key, token = mint(
        name="the command line, for a minute",
        scopes=[Scope.ADMIN],
        expires_at_ms=now_ms + KEY_LIFE_MS,
        now_ms=now_ms,
    )
    url = config.database.url.reveal()
    write_beside(url, partial(table.add_api_key, key=key, act=_act("key.added", key.prefix)))
    try:
        yield token
    finally:
        act = _act("key.revoked", key.prefix)
        write_beside(url, partial(table.revoke_api_key, prefix=key.prefix, act=act))


def _act(act: str, prefix: str) -> Act:
    return Act(
        at_ms=SystemClock().now_ms(),
        actor=CLI.actor,
        address=CLI.address,
        act=act,
        target=prefix,
        detail="for one command",
    )


def _why(document: Any) -> str:
    if not isinstance(document, dict):
        return "what answers there is not tallyd"
    faults = [str(one.get("detail")) for one in document.get("errors", ())]
    text = "; ".join(faults) if faults else str(document.get("detail", "no reason was given"))
    return f"{text} {document.get('advice', '')}".strip()
