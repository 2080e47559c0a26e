"""An agenda pops what is due, earliest first, in slices, and forgets nothing."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from actors.core.agenda import SLICE, Agenda

entries = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)))


def test_pops_what_is_due_and_not_more():
    agenda = Agenda()
    agenda.remind(UUID(int=1), 10)
    agenda.remind(UUID(int=2), 5)
    agenda.remind(UUID(int=3), 11)
    assert agenda.pop_due(4) == []
    assert agenda.pop_due(10) == [UUID(int=2), UUID(int=1)]
    assert agenda.pop_due(10) == []
    assert len(agenda) == 1


def test_repeats_are_one():
    agenda = Agenda()
    for _ in range(3):
        agenda.remind(UUID(int=1), 5)
    assert agenda.pop_due(5) == [UUID(int=1)]
    assert len(agenda) == 0


def test_many_at_one_instant_come_in_slices():
    agenda = Agenda()
    for number in range(2 * SLICE + 1):
        agenda.remind(UUID(int=number), 7)
    slices = []
    while due := agenda.pop_due(7):
        slices.append(due)
    assert [len(due) for due in slices] == [SLICE, SLICE, 1]
    assert {invoice_id for due in slices for invoice_id in due} == {
        UUID(int=number) for number in range(2 * SLICE + 1)
    }


@given(entries, st.integers(0, 20), st.integers(1, 3))
def test_nothing_due_is_forgotten(reminders, now, limit):
    agenda = Agenda()
    for due, number in reminders:
        agenda.remind(UUID(int=number), due)
    popped: list[UUID] = []
    while due := agenda.pop_due(now, limit):
        assert len(due) <= limit
        popped += due
    assert set(popped) == {UUID(int=number) for due, number in reminders if due <= now}
    assert len(agenda) == sum(due > now for due, _ in reminders)
