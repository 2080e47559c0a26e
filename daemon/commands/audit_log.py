"""`tallyd audit --log`: the event log checked against itself, and the stored states against it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from actors.ports import PersistentError, TransientError
from actors.published import LogTip
from daemon.commands.progress import Progress
from daemon.config import flags_from, load_config
from daemon.store.log_audit import LogReport, audit_log

CLEAN = 0
DIFFERS = 1
COULD_NOT_LOOK = 2

_ANCHOR = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")

ADVICE = {
    "file": (
        "The disk, or who copied the file, has damaged it. Keep it as it is, look at the disk, and"
        " restore a backup (`tallyd restore`)."
    ),
    "chain": (
        "Something else than tallyd has written to the database, or the disk is failing. Keep a"
        " copy of it as it is, find out who can write to it, and restore a backup"
        " (`tallyd restore`)."
    ),
    "anchor": (
        "Unless the anchor is of another database, somebody has replaced the log. Keep a copy of it"
        " as it is, find out who can write to the database, and restore a backup that the anchor"
        " fits (`tallyd restore`). After a restore only anchors of up to the backup fit."
    ),
    "versions": (
        "Events of an invoice are missing. Keep a copy of the database as it is, and restore a"
        " backup (`tallyd restore`)."
    ),
    "state": (
        "The log is the truth; what is stored beside it was changed by something else than tallyd,"
        " or tallyd has a fault: please report it. Restore a backup (`tallyd restore`)."
    ),
    "destination": (
        "Payments to such an address are not seen, or are somebody else's. Something else than"
        " tallyd has written to the database: restore a backup (`tallyd restore`)."
    ),
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log", action="store_true", help="check the event log and its hash chain, not the chains"
    )
    command.add_argument(
        "--anchor",
        type=_anchor,
        metavar="SEQ:HASH",
        help="what an earlier audit, or GET /v1/log, gave as the newest: it must still be there",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns CLEAN, DIFFERS or COULD_NOT_LOOK; raises ConfigError."""
    config = load_config(flags_from(arguments))
    try:
        with Progress() as progress:
            report = audit_log(
                config.database.url.reveal(), anchor=arguments.anchor, progress=progress
            )
    except (PersistentError, TransientError) as error:
        if arguments.json:
            print(json.dumps({"clean": None, "error": str(error)}, indent=2))
        print(f"tallyd: {error}", file=sys.stderr)
        return COULD_NOT_LOOK
    if arguments.json:
        print(json.dumps(document(report), indent=2))
    else:
        print("\n".join(lines(report)))
    return CLEAN if report.clean else DIFFERS


def document(report: LogReport) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "clean": report.clean,
        "log_id": report.log_id,
        "seq": report.tip.seq,
        "hash": report.tip.hash.hex(),
        "anchor": str(report.tip),
        "events": report.events,
        "invoices": report.invoices,
        "differences": report.count,
        "findings": [
            {
                "kind": one.kind,
                "seq": one.seq,
                "invoice_id": None if one.invoice_id is None else str(one.invoice_id),
                "what": one.what,
                "advice": ADVICE[one.kind],
            }
            for one in report.findings
        ],
    }


def lines(report: LogReport) -> Iterator[str]:
    """The findings for people."""
    if report.clean:
        yield (
            f"clean: {report.events} events follow from each other, and {report.invoices} invoices"
            " from them"
        )
        yield f"newest: {report.tip}"
        yield "Note it down elsewhere; a later audit with --anchor shows whether it is still there."
        return
    for finding in report.findings:
        yield f"{finding.kind}: {finding.what}"
    if report.count > len(report.findings):
        yield f"… and {report.count - len(report.findings)} more"
    held = f"{report.events} events that follow from each other"
    yield f"looked at: {held}, {report.invoices} invoices"
    for kind in dict.fromkeys(one.kind for one in report.findings):
        yield ADVICE[kind]


def _anchor(text: str) -> LogTip:
    found = _ANCHOR.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text[:90]!r} is not SEQ:HASH, a number and 64 hexadecimal digits"
        )
    return LogTip(int(found[1]), bytes.fromhex(found[2]))
