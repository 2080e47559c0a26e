"""The TON peer helper itself: what tests and the demo rely on."""

import hashlib
from pathlib import Path

import pytest

from tests.helpers.ton import COIN_BASE, FUNDS_BASE, TonPeer, TonPeerError, wait_for_seqno
from tests.helpers.ton_stream import TonStream
from tests.nodes.install import find, how_to_install

pytestmark = pytest.mark.skipif(find("ton") is None, reason=how_to_install("ton"))


def test_what_is_paid_waits_until_it_is_mined() -> None:
    with TonPeer() as peer:
        payee = peer.wallet("payee")
        external = peer.pay(payee, 5)
        assert (peer.mempool(), peer.balance(payee)) == ([external], 0)
        blocks = peer.mine(3)
        assert [block.seqno for block in blocks] == [2, 3, 4]
        assert (blocks[-1].root_hash, peer.mempool()) == (peer.tip(), [])
        assert [one["ext_hash"] for one in peer.transactions(2)].count(external) == 2
        assert peer.balance(payee) == 5
        assert FUNDS_BASE - COIN_BASE < peer.balance(peer.payer) < FUNDS_BASE


def test_stopped_it_keeps_the_chain_and_killed_it_is_as_it_was_stopped(tmp_path: Path) -> None:
    with TonPeer(first=77, network="testnet", datadir=tmp_path / "peer") as peer:
        payee, port = peer.wallet("payee"), peer.port
        jetton = peer.create_jetton("stablecoin")
        peer.mint(jetton, peer.payer, 1000)
        peer.mine()
        peer.set_shards(2, blocks=2)
        peer.pay_jetton(jetton, payee, 10, comment="inv")
        peer.flood(3)
        (block,) = peer.mine()
        before = peer.get("/api/v3/transactionsByMasterchainBlock", seqno=block.seqno, limit=100)
        peer.restart()
        assert (peer.port, peer.tip(), peer.height()) == (port, block.root_hash, block.seqno)
        path = "/api/v3/transactionsByMasterchainBlock"
        assert peer.get(path, seqno=block.seqno, limit=100) == before
        peer.pay_jetton(jetton, payee, 20)
        peer.mine()
        assert peer.jetton_balance(jetton, payee) == 30
        peer.kill()
        assert not peer.is_running
        peer.start()
        assert (peer.tip(), peer.jetton_balance(jetton, payee)) == (block.root_hash, 10)
        assert peer.get("/api/v3/masterchainInfo")["first"]["seqno"] == 77
        assert payee.non_bounceable.startswith("0Q")


def test_wallets_of_one_key() -> None:
    """v4r2 by wallet id, v5r1 by number and network; the peer can spend from those it made."""
    seed = hashlib.sha256(b"seed").digest()
    with TonPeer() as peer:
        for version, subwallet in (("v4r2", 698983191 + 5), ("v5r1", 5)):
            wallet = peer.wallet(
                "own", version=version, subwallet=subwallet, seed=seed, balance_base=COIN_BASE
            )
            key = bytes.fromhex(wallet.public_key)
            derived = peer.derived(key, version=version, subwallet=subwallet)
            assert derived.account == wallet.account
            assert wallet.bounceable.startswith("EQ")
            assert wallet.non_bounceable.startswith("UQ")
            elsewhere = peer.derived(key, version=version, subwallet=subwallet, network="testnet")
            assert (elsewhere.account == wallet.account) is (version == "v4r2")
            peer.pay(peer.payer, 10**8, sender=wallet)
            peer.mine()
            assert peer.balance(wallet) < 9 * 10**8


def test_many_payments_in_one_message() -> None:
    with TonPeer() as peer:
        payees = [peer.wallet(f"payee {number}") for number in range(4)]
        peer.pay_many([{"to": one.address, "amount_base": 7, "bounce": False} for one in payees])
        peer.mine()
        assert [peer.balance(one) for one in payees] == [7] * 4


def test_a_message_that_no_contract_takes_is_refused_at_mining() -> None:
    with TonPeer() as peer:
        poor = peer.wallet("poor")
        peer.pay(peer.payer, 5, sender=poor)
        with pytest.raises(AssertionError, match="ext_hash"):
            peer.mine()


def test_blocks_by_themselves_and_the_count_of_requests() -> None:
    with TonPeer() as peer:
        peer.auto_mine(0.01)
        wait_for_seqno(peer, 5)
        peer.auto_mine(None)
        height = peer.height()
        peer.forget_requests()
        peer.get("/api/v3/masterchainInfo")
        with TonStream(peer.port):
            assert peer.connections() == 1
        assert peer.requests() == {"/api/v3/masterchainInfo": 1, "/api/streaming/v2/ws": 1}
        assert peer.height() == height
        with pytest.raises(TonPeerError, match="unknown command"):
            peer.command("restore")


def test_a_mirror_is_another_endpoint_of_the_same_chain() -> None:
    """For failover: each has its own options, faults, counts and streams."""
    with TonPeer() as peer:
        mirror = peer.mirror(v3=False, lag_v2=1)
        payee = peer.wallet("payee")
        peer.mine()
        assert mirror.request("/api/v3/masterchainInfo")[0] == 404
        last = mirror.get("/api/v2/getMasterchainInfo")["result"]["last"]
        assert last["seqno"] == peer.height() - 1
        mirror.fail(status=503, times=1)
        assert mirror.request("/api/v2/getMasterchainInfo")[0] == 503
        peer.get("/api/v3/masterchainInfo")
        assert mirror.requests() == {"/api/v3/masterchainInfo": 1, "/api/v2/getMasterchainInfo": 2}
        assert peer.requests() == {"/api/v3/masterchainInfo": 1}
        with TonStream(peer.port) as one, TonStream(mirror.port) as two:
            for stream in (one, two):
                stream.subscribe([payee.address], min_finality="pending")
            peer.pay(payee, 5)
            assert one.next() == two.next()
