"""docs/invoice-states.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from actors.core.codec import event_from_json, event_to_json
from actors.core.events import Event
from actors.core.invoice import TRANSITIONS, State
from api.convert import STATUS_OF, STATUS_WORD

PAGE = (Path(__file__).parents[2] / "docs" / "invoice-states.md").read_text(encoding="utf-8")
KINDS = {kind.kind for family in Event.__args__ for kind in getattr(family, "__args__", (family,))}
TABLE = {
    (state.name, kind.kind, after.name)
    for state, row in TRANSITIONS.items()
    for kind, after in row.items()
}
EXAMPLES = dict(
    re.findall(r"^### `([\w.]+)`\n\n[^#]*?```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
)


def test_the_diagram_is_the_table():
    arrows = re.findall(r"^ +(\w+) --> (\w+): ([\w.]+)$", PAGE, re.MULTILINE)
    assert len(arrows) == len(TABLE)
    assert {(before, kind, after) for before, after, kind in arrows} == TABLE
    assert "[*] --> PENDING: invoice.created" in PAGE


def test_the_rows_are_the_table():
    rows = re.findall(r"^\| ([A-Z]+) \| `([\w.]+)` \| ([A-Z]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(TABLE)
    assert set(rows) == TABLE


@pytest.mark.parametrize("state", State)
def test_the_words_of_goipay_and_rest(state):
    assert f"| {state.name} | {STATUS_OF[state].name} | {STATUS_WORD[state]} |" in PAGE


def test_every_kind_of_event_has_its_example():
    assert set(EXAMPLES) == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_example_is_what_is_stored_and_published(kind):
    data = json.loads(EXAMPLES[kind])
    event = event_from_json(kind, data)
    assert event.kind == kind
    assert event_to_json(event) == data
    assert json.dumps(event_to_json(event), indent=2) == EXAMPLES[kind].strip()
