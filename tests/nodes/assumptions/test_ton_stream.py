"""What the TON driver assumes of toncenter's streaming API v2 over websocket. Docstrings say what.

It is a faster way to know, not a safer one: nothing that was missed comes again.
"""

from collections.abc import Iterator

import pytest

from tests.helpers.ton import COIN_BASE, TonPeer, TonWallet
from tests.helpers.ton_shapes import v3_faults
from tests.helpers.ton_stream import StreamClosedError, TonStream
from tests.nodes.install import find, how_to_install


@pytest.fixture(scope="module")
def peer() -> Iterator[TonPeer]:
    """One peer for all tests here: each undoes what it sets."""
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    with TonPeer() as running:
        yield running


@pytest.fixture
def payee(peer: TonPeer, request: pytest.FixtureRequest) -> TonWallet:
    return peer.wallet(str(request.node.nodeid))


@pytest.fixture
def stream(peer: TonPeer) -> Iterator[TonStream]:
    with TonStream(peer.port) as opened:
        yield opened


def test_a_payment_is_told_at_each_level(
    peer: TonPeer, stream: TonStream, payee: TonWallet
) -> None:
    """pending, confirmed, finalized, under one `trace_external_hash_norm`, each with the
    subscribed accounts' transactions in v3's form. The pending one's hash is a guess."""
    stream.subscribe([payee.non_bounceable], min_finality="pending")
    external = peer.pay(payee, COIN_BASE)
    events = [stream.next()]
    (block,) = peer.mine()
    events += [stream.next(), stream.next()]
    assert [one["finality"] for one in events] == ["pending", "confirmed", "finalized"]
    assert {one["trace_external_hash_norm"] for one in events} == {external}
    found = [transaction for one in events for transaction in one["transactions"]]
    assert not [fault for one in found for fault in v3_faults(one, "Transaction")]
    assert [one["account"] for one in found] == [payee.address] * 3
    assert [one["finality"] for one in found] == ["pending", "confirmed", "finalized"]
    assert found[0]["hash"] != found[1]["hash"] == found[2]["hash"]
    assert found[2]["mc_block_seqno"] == block.seqno


def test_without_a_level_only_what_is_final_is_told(
    peer: TonPeer, stream: TonStream, payee: TonWallet
) -> None:
    """And nothing of other accounts, the sender's among them."""
    told = stream.call("subscribe", types=["transactions"], addresses=[payee.address])
    assert told["status"] == "subscribed"
    peer.pay(payee, COIN_BASE)
    peer.mine()
    event = stream.next()
    assert event["finality"] == "finalized"
    assert [one["account"] for one in event["transactions"]] == [payee.address]
    assert stream.call("ping")["status"] == "pong"
    assert not stream.events


def test_what_expires_is_invalidated(peer: TonPeer, stream: TonStream, payee: TonWallet) -> None:
    """`trace_invalidated`, for those who were told of the trace: its payment will not come."""
    stream.subscribe([payee.address], min_finality="pending")
    external = peer.pay(payee, COIN_BASE)
    assert stream.next()["finality"] == "pending"
    peer.drop(external)
    assert stream.next() == {"type": "trace_invalidated", "trace_external_hash_norm": external}
    peer.mine()
    assert stream.call("ping")["status"] == "pong"
    assert not stream.events


def test_a_subscription_replaces_the_one_before(
    peer: TonPeer, stream: TonStream, payee: TonWallet
) -> None:
    """There is no adding: all addresses have to be named again. Removing is possible."""
    other = peer.wallet("other")
    stream.subscribe([payee.address])
    stream.subscribe([other.address])
    for wallet in (payee, other):
        peer.pay(wallet, COIN_BASE)
    peer.mine()
    assert stream.next()["transactions"][0]["account"] == other.address
    assert stream.call("unsubscribe", addresses=[other.address])["status"] == "unsubscribed"
    peer.pay(other, COIN_BASE)
    peer.mine()
    assert stream.call("ping")["status"] == "pong"
    assert not stream.events


def test_events_may_come_twice(peer: TonPeer, stream: TonStream, payee: TonWallet) -> None:
    stream.subscribe([payee.address])
    peer.set(repeat=1)
    peer.pay(payee, COIN_BASE)
    peer.mine()
    assert stream.next() == stream.next()
    peer.set(repeat=0)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"types": ["transactions"], "addresses": ["EQabc"]}, "invalid address: EQabc"),
        ({"types": ["transactions"], "addresses": []}, "addresses are required"),
        ({"types": [], "addresses": []}, "types are required"),
        ({"types": ["blocks"], "addresses": []}, "invalid event type: blocks"),
    ],
)
def test_a_refused_subscription_is_an_answer_with_error(
    stream: TonStream, request_: dict[str, list[str]], error: str
) -> None:
    """`{"id", "error"}`; the connection goes on."""
    assert stream.call("subscribe", **request_) == {"id": "1", "error": error}
    assert stream.call("ping") == {"id": "2", "status": "pong"}
    stream.send("{")
    assert stream.answer()["error"].startswith("invalid request envelope")


def test_a_plan_limits_the_addresses(peer: TonPeer, stream: TonStream) -> None:
    """Too many in one subscription: refused as a whole."""
    peer.set(ws_addresses=2)
    addresses = [peer.wallet(f"limited {number}").address for number in range(3)]
    told = stream.call("subscribe", types=["transactions"], addresses=addresses)
    assert told["error"] == "address limit exceeded: current 0 + new 3 > max 2"
    peer.set(ws_addresses=None)


def test_a_server_may_not_offer_it(peer: TonPeer) -> None:
    """404 on the upgrade; 401 without the key."""
    peer.set(ws=False)
    with pytest.raises(StreamClosedError) as closed:
        TonStream(peer.port)
    assert closed.value.code == 404
    peer.set(ws=True, api_key="k")
    with pytest.raises(StreamClosedError) as closed:
        TonStream(peer.port)
    assert closed.value.code == 401
    with TonStream(peer.port, headers={"X-API-Key": "k"}) as opened:
        assert opened.call("ping")["status"] == "pong"
    peer.set(api_key=None)


@pytest.mark.parametrize(("abruptly", "code"), [(False, 1001), (True, 0)])
def test_connections_end(peer: TonPeer, stream: TonStream, abruptly: bool, code: int) -> None:
    """With 1001 when the server goes away, or with nothing; what happens then is never told."""
    assert stream.call("ping")["status"] == "pong"
    peer.disconnect_streams(abruptly=abruptly)
    assert stream.wait_closed() == code
