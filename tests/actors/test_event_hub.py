"""The hub tells everybody, in order, and nobody's fault is another's loss."""

from uuid import UUID

import pytest

from actors.core.decision import create
from actors.core.invoice import evolve
from actors.event_hub import EventHub, HubStatistics
from actors.ports import Committed
from tests.helpers.invoices import terms
from tests.helpers.recording_log import RecordingLog


def committed(seq: int, invoice: int = 1) -> Committed:
    event = create(terms(invoice_id=UUID(int=invoice)))
    return Committed(seq, None, event, evolve(None, event))


def test_every_listener_gets_every_batch_in_order():
    hub = EventHub(log=RecordingLog())
    first: list[int] = []
    second: list[int] = []
    with (
        hub.listening(lambda batch: first.extend(c.seq for c in batch)),
        hub.listening(lambda batch: second.extend(c.seq for c in batch)),
    ):
        hub.publish([committed(1), committed(2)])
        hub.publish([committed(5)])
    hub.publish([committed(6)])
    assert first == second == [1, 2, 5]
    assert hub.statistics() == HubStatistics(
        last_seq=6, listeners=0, waiters=0, listener_failures=0
    )


@pytest.mark.parametrize("seqs", [(2, 2), (2, 1)])
def test_sequence_numbers_only_grow(seqs):
    hub = EventHub(log=RecordingLog())
    hub.publish([committed(seqs[0])])
    with pytest.raises(AssertionError, match="sequence order"):
        hub.publish([committed(seqs[1])])


def test_a_listener_that_fails_is_counted_and_the_others_are_told():
    log = RecordingLog()
    hub = EventHub(log=log)
    told: list[int] = []
    bug = RuntimeError("listener's bug")

    def failing(batch) -> None:
        raise bug

    with hub.listening(failing), hub.listening(lambda batch: told.append(len(batch))):
        with hub.bell(UUID(int=1)) as bell:
            hub.publish([committed(1)])
            assert bell.is_set()
        hub.publish([committed(2)])
    assert told == [1, 1]
    assert hub.statistics().listener_failures == 2
    assert [line.fields["exc_info"] for line in log.level("error")] == [bug, bug]


def test_a_listener_may_leave_while_it_is_told():
    hub = EventHub(log=RecordingLog())
    told: list[str] = []
    scope = hub.listening(lambda batch: (told.append("once"), scope.__exit__(None, None, None)))
    scope.__enter__()
    with hub.listening(lambda batch: told.append("other")):
        hub.publish([committed(1)])
        hub.publish([committed(2)])
    assert told == ["once", "other", "other"]


def test_a_change_between_bell_and_reading_rings_it():
    hub = EventHub(log=RecordingLog())
    with hub.bell(UUID(int=1)) as bell, hub.bell(UUID(int=2)) as other:
        hub.publish([committed(1, invoice=1)])
        assert bell.is_set()
        assert not other.is_set()
        assert hub.statistics().waiters == 2
    assert hub.statistics().waiters == 0


def test_many_may_wait_for_one_invoice_and_all_are_rung():
    hub = EventHub(log=RecordingLog())
    with hub.bell(UUID(int=1)) as one, hub.bell(UUID(int=1)) as two:
        hub.publish([committed(1)])
        assert one.is_set()
        assert two.is_set()
    with hub.bell(UUID(int=1)) as late:
        assert not late.is_set(), "what was before the bell does not ring it"
    assert hub.statistics().waiters == 0
