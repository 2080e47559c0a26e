from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from actors.core.agenda import SLICE, Agenda

ALICE, BOB = UUID(int=1), UUID(int=2)


def test_what_is_due_comes_earliest_first_and_once():
    agenda = Agenda()
    for invoice_id, due in ((BOB, 9), (ALICE, 7), (BOB, 7), (ALICE, 20)):
        agenda.remind(invoice_id, due)
    assert agenda.pop_due(6) == []
    assert agenda.pop_due(10) == [ALICE, BOB]
    assert len(agenda) == 1
    assert agenda.pop_due(20) == [ALICE]
    assert agenda.pop_due(10**30) == []


def test_many_due_at_one_instant_come_in_slices():
    agenda = Agenda()
    for number in range(SLICE + 1):
        agenda.remind(UUID(int=number), 5)
    assert len(agenda.pop_due(5)) == SLICE
    assert len(agenda.pop_due(5)) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=30), st.integers(0, 10))
def test_nothing_due_is_forgotten_and_nothing_else_comes(reminders, now):
    agenda = Agenda()
    for due, number in reminders:
        agenda.remind(UUID(int=number), due)
    popped = agenda.pop_due(now)
    assert set(popped) == {UUID(int=number) for due, number in reminders if due <= now}
    assert len(agenda) == sum(due > now for due, _ in reminders)
