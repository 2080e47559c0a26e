"""Events written by hand are the bytes that the generated classes and Google's runtime write."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.published import Published
from api.convert import instant
from api.grpc.codec import PREFIX, decode
from api.grpc.event_frames import MESSAGE_BYTES, EventFrames, encode_event, varint
from proto.tally.v1 import Event, WatchInvoicesResponse
from tests.helpers.google_messages import google_class

UINT64 = st.integers(0, 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
EVENTS = st.builds(
    Published,
    id=TEXTS.filter(bool),
    seq=UINT64,
    type=TEXTS,
    at_ms=st.integers(-62_135_596_800_000, 253_402_300_799_999),
    invoice_id=st.uuids(),
    user_id=st.uuids(),
    version=UINT64,
    asset=TEXTS,
    data=TEXTS.filter(bool).map(str.encode),
)


def message(event: Published) -> Event:
    return Event(
        id=event.id,
        seq=event.seq,
        type=event.type,
        at=instant(event.at_ms),
        invoice_id=str(event.invoice_id),
        user_id=str(event.user_id),
        version=event.version,
        asset=event.asset,
        data=event.data.decode(),
    )


def event(seq: int, *, data: bytes = b"{}") -> Published:
    return Published(
        f"0a1b2c3d-{seq}", seq, "payment.seen", 1_700_000_000_123 + seq, UUID(int=seq), UUID(int=7),
        1, "BTC", data,
    )  # fmt: skip


@given(EVENTS)
def test_an_event_is_the_same_bytes_from_all_three(one):
    wire = encode_event(one)
    assert wire == bytes(message(one))
    theirs = google_class("tally.v1.Event").FromString(wire)
    assert theirs.SerializeToString(deterministic=True) == wire


def test_the_instants_that_have_no_seconds_or_no_fraction():
    for at_ms in (0, 1, 999, 1000, -1, -1000):
        one = event(1)._replace(at_ms=at_ms)
        assert encode_event(one) == bytes(message(one))
        assert decode(encode_event(one), Event).at == instant(at_ms)


@given(st.lists(EVENTS, max_size=3), UINT64)
def test_a_response_is_the_same_bytes_from_all_three(events, seq):
    (encoded,) = EventFrames().responses(events, seq, keep=False)
    wire = encoded.frame[PREFIX.size :]
    assert wire == bytes(WatchInvoicesResponse(events=[message(one) for one in events], seq=seq))
    theirs = google_class("tally.v1.WatchInvoicesResponse").FromString(wire)
    assert theirs.SerializeToString(deterministic=True) == wire


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63 - 1, 2**64 - 1])
def test_varints_are_read_back(value):
    wire = b"\x10" + varint(value)
    assert google_class("tally.v1.WatchInvoicesResponse").FromString(wire).seq == value


def test_many_events_become_responses_that_fit_a_frame_each_with_its_cursor():
    events = [event(seq, data=b'"' + b"x" * 400 + b'"') for seq in range(1, 201)]
    frames = EventFrames()
    for keep in (False, True, True):
        responses = [
            decode(one.frame[PREFIX.size :], WatchInvoicesResponse)
            for one in frames.responses(events, 500, keep=keep)
        ]
        assert len(responses) > 3
        assert [one.seq for response in responses for one in response.events] == [*range(1, 201)]
        for response in responses[:-1]:
            assert len(bytes(response)) <= MESSAGE_BYTES
            assert response.seq == response.events[-1].seq
        assert responses[-1].seq == 500


def test_an_event_that_is_larger_than_a_frame_is_alone():
    events = [event(1), event(2, data=b"x" * 2 * MESSAGE_BYTES), event(3)]
    found = [one.body_bytes for one in EventFrames().responses(events, 3, keep=False)]
    assert len(found) == 3


def test_what_is_kept_is_bounded_and_of_this_log():
    frames = EventFrames(kept=10)
    for start in range(1, 100, 7):
        list(frames.responses([event(n) for n in range(start, start + 7)], start, keep=True))
        assert len(frames._encoded) <= 10
    (again,) = frames.responses([event(99)], 99, keep=True)
    assert decode(again.frame[PREFIX.size :], WatchInvoicesResponse).events == [message(event(99))]


def test_a_heartbeat_is_made_once():
    frames = EventFrames()
    assert frames.heartbeat(7) is frames.heartbeat(7)
    assert decode(frames.heartbeat(8).frame[PREFIX.size :], WatchInvoicesResponse).seq == 8
    assert frames.heartbeat(0).body_bytes == 0


def test_instants_are_utc():
    assert instant(0) == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
