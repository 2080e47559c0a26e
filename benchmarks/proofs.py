"""What is proved, not measured: long runs whose last result is kept in `benchmarks/proofs/`.

`record` is called by the program that ran, with `WRITE=1`; the page's section and the README's
table are made of what is kept, so a new proof needs no new benchmarks. The figures that a proof's
targets name must be there: a proof without them is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import ROOT, Verdict
from benchmarks.suite import SUITE, Target

FOLDER = ROOT / "benchmarks" / "proofs"
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
HEADING = "## Proofs"
_INTRODUCTION = """\
Long runs, each repeated by the command that it names; with `WRITE=1` the command puts its figures
here. `make bench` repeats only the recovery."""
_DEPENDS_ON = ("date", "processor", "cores", "memory", "system", "kernel", "python")
_TABLE = re.compile(r"(?<=<!-- proofs -->\n).*?(?=<!-- end of proofs -->)", re.DOTALL)
_SECTION = re.compile(r"^## Proofs\n.*?(?=^## )", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Proof:
    """One kind of run: what it shows and what its figures are held against."""

    name: str
    title: str
    text: str
    targets: tuple[Target, ...]


PROOFS = (
    Proof(
        "simulation",
        "Simulated faults",
        "The whole daemon on a virtual clock, with simulated nodes, disk, network and clients;"
        " each history is drawn from its seed and held to a plain account of the chain"
        " ([simulation](simulation.md)).",
        (
            Target("simulated histories played", "histories", 10_000, unit="", at_least=True),
            Target("the same, per 10 minutes", "per_10_minutes", 10_000, unit="", at_least=True),
            Target("the same, seeds that fail", "failing_seeds", 0, unit=""),
        ),
    ),
    Proof(
        "crash",
        "kill -9",
        "Real daemons on SQLite and on PostgreSQL with real nodes, killed at random moments, also"
        " while they start and while they catch up; in the end every client's view is held"
        " against the chain.",
        (
            Target("`kill -9` while payments flow", "kills", 300, unit="", at_least=True),
            Target("the same, events and payments lost", "lost", 0, unit=""),
            Target("the same, doubled", "doubled", 0, unit=""),
            Target("the same, wrong in another way", "wrong", 0, unit=""),
        ),
    ),
    Proof(
        "recovery",
        "Recovery with a full house",
        "From `kill -9` of a daemon with so many open invoices until the next one serves: gRPC's"
        " health service says SERVING and every chain is current. The slowest of all kills counts.",
        next(benchmark.targets for benchmark in SUITE if benchmark.name == "recovery"),
    ),
    Proof(
        "load",
        "Load",
        "A daemon driven as merchants and their customers would, for a long time at an even rate.",
        (Target("growth of memory under steady load", "memory_growth_percent", 5, unit=" %"),),
    ),
)
_BY_NAME = {proof.name: proof for proof in PROOFS}


# --- writing --------------------------------------------------------------------------------------


def record(
    name: str,
    *,
    command: str,
    figures: Mapping[str, Any],
    machine: Mapping[str, Any] | None = None,
    folder: Path = FOLDER,
    page: Path = PAGE,
    readme: Path = README,
) -> Path:
    """Keep a run's figures as the last of their kind and put them on the page.

    `command` repeats the run. `machine` is what report.machine() said before the run; without it
    the machine is described without its load. Raises ValueError for an unknown name, and for a
    figure that a target needs and that is missing or no finite number.
    """
    if name not in _BY_NAME:
        raise ValueError(f"no proof is called {name}: there are {', '.join(_BY_NAME)}")
    for target in _BY_NAME[name].targets:
        value = figures.get(target.figure)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the proof {name} needs the figure {target.figure}, not {value!r}")
    found = report.machine() if machine is None else machine
    described = {key: found[key] for key in _DEPENDS_ON}
    if machine is not None:
        described["load before"] = machine["load before"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    document = {"command": command, "machine": described, "figures": dict(figures)}
    path.write_text(json.dumps(document, indent=2) + "\n")
    refresh(page=page, readme=readme, folder=folder)
    return path


def refresh(*, page: Path = PAGE, readme: Path = README, folder: Path = FOLDER) -> None:
    """Put what is kept on a page and a README that are there, and leave the rest of them alone."""
    for path, text in ((page, _page(page, folder)), (readme, _readme(readme, folder))):
        if text != path.read_text():
            path.write_text(text)


def _page(path: Path, folder: Path) -> str:
    text, replaced = path.read_text(), section(folder)
    if _SECTION.search(text):
        return _SECTION.sub(lambda _: replaced + "\n\n", text)
    before, heading, after = text.partition("## Machine\n")
    if not heading:
        raise ValueError(f"{path} has no section Machine to put the proofs before")
    return f"{before}{replaced}\n\n{heading}{after}"


def _readme(path: Path, folder: Path) -> str:
    text, placed = _TABLE.subn(lambda _: table(folder) + "\n", path.read_text())
    if not placed:
        raise ValueError(
            f"{path} has no place for proofs (<!-- proofs --> … <!-- end of proofs -->)"
        )
    return text


# --- reading --------------------------------------------------------------------------------------


def section(folder: Path = FOLDER) -> str:
    """The page's section: a table of all targets, then each proof with all its figures."""
    kept = _kept(folder)
    found = [verdict for proof, document in kept for verdict in _verdicts(proof, document)]
    parts = [HEADING, _INTRODUCTION, report.markdown(report.HEAD, map(report.cells, found))]
    for proof, document in kept:
        parts += _shown(proof, document)
    return "\n\n".join(parts)


def table(folder: Path = FOLDER) -> str:
    """The README's table: every target with what repeats it."""
    return report.markdown(
        ("what", "figure", "target", "", "again"),
        (
            (*report.cells(verdict), f"`{document['command']}`")
            for proof, document in _kept(folder)
            for verdict in _verdicts(proof, document)
        ),
    )


def _kept(folder: Path) -> list[tuple[Proof, dict[str, Any]]]:
    return [
        (proof, json.loads(path.read_text()))
        for proof in PROOFS
        if (path := _in(folder, proof)).exists()
    ]


def _verdicts(proof: Proof, document: Mapping[str, Any]) -> list[Verdict]:
    figures = document["figures"]
    return [Verdict(target, float(figures[target.figure])) for target in proof.targets]


def _in(folder: Path, proof: Proof) -> Path:
    return folder / f"{proof.name}.json"


def _shown(proof: Proof, document: Mapping[str, Any]) -> Sequence[str]:
    where = "; ".join(f"{key} {value}" for key, value in document["machine"].items())
    figures = ((f"`{key}`", report.plain(value)) for key, value in document["figures"].items())
    return (
        f"### {proof.title}",
        proof.text,
        f"`{document['command']}`: {where}",
        report.markdown(("figure", ""), figures),
    )
