"""What may be wrong in the end of a story, and how two accounts of the same events differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.helpers.log_readers import Told

Kind = Literal["lost", "doubled", "wrong"]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody saw and should not have, or should have and did not."""

    kind: Kind
    what: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def compare(view: str, got: Sequence[Told], wanted: Sequence[Told]) -> list[Finding]:
    """A reader's events, each of which should have come once and in order, against the log."""
    times = Counter((one.seq, one.id) for one in got)
    by_id = {one.id: one for one in wanted}
    lost = [one.seq for one in wanted if (one.seq, one.id) not in times]
    doubled = [seq for (seq, _), count in times.items() if count > 1]
    strange = [one for one in got if by_id.get(one.id) != one]
    found = [
        *some("lost", f"{view} lacks events", lost),
        *some("doubled", f"{view} was told twice of events", doubled),
        *some("wrong", f"{view} was told what the log does not say", strange),
    ]
    if not found and list(got) != list(wanted):
        found.append(Finding("wrong", f"{view} has the events in another order"))
    return found


def some(kind: Kind, what: str, which: Iterable[object]) -> list[Finding]:
    """None for nothing; the first few are named."""
    them = list(which)
    if not them:
        return []
    named = ", ".join(map(str, them[:SHOWN])) + (", …" if len(them) > SHOWN else "")
    return [Finding(kind, f"{what}: {named}", len(them))]
