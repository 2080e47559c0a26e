"""The driver on the TON test peer: real wallets and jettons on a real TVM."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import COIN_BASE, TonPeer
from tests.helpers.ton_shop import (
    COIN,
    Shop,
    away,
    commented,
    decimals_of,
    jetton_asset,
    paid,
    read,
    source_of,
)

AMOUNT = 2 * COIN_BASE


@pytest.fixture(scope="module")
def running() -> Iterator[TonPeer]:
    with TonPeer() as peer:
        yield peer


APIS = ("v3", "v2 cpp", "v2 python")


@pytest.fixture(params=APIS)
def peer(request: Any, running: TonPeer) -> Iterator[TonPeer]:
    """The peer, offering one of the APIs."""
    version, _, style = request.param.partition(" ")
    running.set(v3=version == "v3", v2=version == "v2", v2_style=style or "cpp")
    yield running
    running.set(v3=True, v2=True, v2_style="cpp", lag_v3=0, lag_v2=0, repeat=0)
    running.set_shards(1)


@pytest.fixture
def peer_v3(running: TonPeer) -> TonPeer:
    return running


# --- coins ----------------------------------------------------------------------------------------


async def test_the_value_that_a_new_wallet_is_paid_counts_though_its_code_is_not_there(peer):
    wallet = await away(peer.wallet, "undeployed", balance_base=0)
    shop, since = Shop(wallet.account), await away(peer.height)
    await away(peer.pay, wallet, AMOUNT)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == [(wallet.account, "TON", AMOUNT, 0)]


async def test_what_bounces_does_not_count(peer):
    wallet = await away(peer.wallet, f"bouncing {await away(peer.height)}")
    shop, since = Shop(wallet.account), await away(peer.height)
    await away(peer.pay, wallet, AMOUNT, bounce=True)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == []


async def test_money_of_ours_that_comes_back_does_not_count(peer):
    ours = await away(peer.wallet, "spender", balance_base=10 * COIN_BASE, deploy=True)
    nobody = await away(peer.wallet, f"nobody {await away(peer.height)}")
    await away(peer.mine)
    shop, since = Shop(ours.account), await away(peer.height)
    await away(peer.pay, nobody, COIN_BASE, bounce=True, sender=ours)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == []


async def test_a_deployed_wallet_is_paid_and_what_it_sends_is_no_payment(peer):
    ours = await away(peer.wallet, "busy", balance_base=10 * COIN_BASE, deploy=True)
    await away(peer.mine)
    shop, since = Shop(ours.account), await away(peer.height)
    await away(peer.pay, ours, AMOUNT, bounce=True, comment="anything")
    await away(peer.mine)
    await away(peer.pay, peer.payer, COIN_BASE, sender=ours)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == [(ours.account, "TON", AMOUNT, 0)]


@pytest.mark.parametrize("shards", [2, 4])
async def test_payments_in_every_shard_block_are_seen_once(peer, shards):
    wallet = await away(peer.wallet, f"sharded {shards}")
    shop, since = Shop(wallet.account), await away(peer.height)
    await away(peer.set_shards, shards, blocks=3)
    for amount in range(1, 7):
        await away(peer.pay, wallet, AMOUNT + amount)
        await away(peer.mine)
    await away(peer.set_shards, 1)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        found = await paid(source, peer, shop, since=since)
    assert found == [(wallet.account, "TON", AMOUNT + amount, 0) for amount in range(1, 7)]


# --- comments -------------------------------------------------------------------------------------


async def test_comments_tell_invoices_of_one_account_apart(peer):
    wallet = await away(peer.wallet, "shared", balance_base=COIN_BASE, deploy=True)
    await away(peer.mine)
    first, second = commented(wallet, "INV-1"), commented(wallet, "Rechnung № 2")
    shop, since = Shop(first, second), await away(peer.height)
    bodies: list[dict[str, str]] = [
        {"comment": "INV-1"},
        {"bare": "INV-1"},
        {"comment": "Rechnung № 2"},
        {"comment": "INV-1 "},
        {"comment": "inv-1"},
        {"comment": ""},
        {"encrypted": b"INV-1".hex()},
        {"comment": "INV-1" * 60},
    ]
    for number, body in enumerate(bodies):
        await away(peer.pay, wallet, AMOUNT + number, body=body)
        await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == [
            (first, "TON", AMOUNT, 0),
            (first, "TON", AMOUNT + 1, 0),
            (second, "TON", AMOUNT + 2, 0),
        ]


async def test_a_long_comment_goes_on_in_references(peer):
    wallet = await away(peer.wallet, "wordy")
    comment = "Ein langer Satz, der nicht in eine Zelle passt. " * 5
    shop, since = Shop(commented(wallet, comment)), await away(peer.height)
    await away(peer.pay, wallet, AMOUNT, comment=comment)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert [each[2] for each in await paid(source, peer, shop, since=since)] == [AMOUNT]


# --- jettons --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["standard", "stablecoin"])
def jetton(request: Any, running: TonPeer) -> Any:
    running.set(v3=True, v2=True)
    made = running.create_jetton(request.param)
    running.mine()
    running.mint(made, running.payer, 10**12)
    running.mine()
    return made


@pytest.fixture(scope="module")
def usdt(jetton: Any, running: TonPeer) -> Any:
    return jetton_asset(jetton, exponent=decimals_of(running, jetton))


async def test_jettons_count_from_the_wallet_that_the_master_derives(peer, jetton, usdt):
    wallet = await away(peer.wallet, f"jettons {usdt.contract.hex()}")
    shop, since = Shop(wallet.account), await away(peer.height)
    await away(peer.pay_jetton, jetton, wallet, 1_500_000)
    await away(peer.mine)
    await away(peer.pay_jetton, jetton, wallet, 2_500_000, forward_base=0)
    await away(peer.mine)
    async with source_of(peer.url, jettons=(usdt,)) as source:
        await source.status()
        assert source.disabled_assets() == {}
        found = await paid(source, peer, shop, since=since)
    jettons = [each for each in found if each[1] != "TON"]
    assert jettons == [
        (wallet.account, "USDT_TON", 1_500_000, 1),
        (wallet.account, "USDT_TON", 2_500_000, 1),
    ]


async def test_comments_of_jettons_are_read_inline_and_in_a_reference(peer, jetton, usdt):
    wallet = await away(peer.wallet, f"comments {usdt.contract.hex()}")
    mine, other = commented(wallet, "INV-7"), commented(wallet, "INV-8")
    shop, since = Shop(mine, other), await away(peer.height)
    for amount, options in (
        (1, {"comment": "INV-7"}),
        (2, {"comment": "INV-7", "place": "ref"}),
        (3, {"comment": "INV-8", "place": "ref"}),
        (4, {"comment": "INV-9"}),
        (5, {"place": "none"}),
    ):
        await away(peer.pay_jetton, jetton, wallet, amount, **options)
        await away(peer.mine)
    async with source_of(peer.url, jettons=(usdt,)) as source:
        found = await paid(source, peer, shop, since=since)
    assert [each[::2] for each in found] == [(mine, 1), (mine, 2), (other, 3)]


async def test_a_jetton_that_only_looks_like_it_does_not_count(peer, jetton, usdt, running):
    fake = await away(peer.create_jetton, "standard", salt=9)
    await away(peer.mine)
    await away(peer.mint, fake, peer.payer, 10**12)
    await away(peer.mine)
    wallet = await away(peer.wallet, f"fooled {usdt.contract.hex()}")
    shop, since = Shop(wallet.account), await away(peer.height)
    await away(peer.pay_jetton, fake, wallet, 5_000_000, forward_base=0)
    await away(peer.mine)
    # What a wallet would be told after a true payment, sent by anybody.
    notification = {"op": "transfer_notification", "amount_base": "5000000"}
    await away(peer.pay, wallet, COIN_BASE, body=notification)
    await away(peer.mine)
    async with source_of(peer.url, jettons=(usdt,)) as source:
        found = await paid(source, peer, shop, since=since)
    assert [each[1] for each in found] == ["TON"]


async def test_a_stranger_cannot_make_a_jetton_wallet_believe_in_a_transfer(peer, jetton, usdt):
    wallet = await away(peer.wallet, f"robbed {usdt.contract.hex()}")
    await away(peer.pay_jetton, jetton, wallet, 7)
    await away(peer.mine)
    shop, since = Shop(wallet.account), await away(peer.height)
    theirs = await away(peer.jetton_wallet, jetton, wallet)
    forged = {"op": "internal_transfer", "amount_base": "9000000"}
    await away(peer.pay, theirs, COIN_BASE, body=forged)
    await away(peer.mine)
    async with source_of(peer.url, jettons=(usdt,)) as source:
        assert await paid(source, peer, shop, since=since) == []


async def test_jettons_that_are_not_what_the_file_says_are_disabled_with_a_reason(peer_v3):
    odd = await away(peer_v3.create_jetton, "odd")
    nine = await away(peer_v3.create_jetton, "standard", decimals=9, salt=1)
    nobody = await away(peer_v3.wallet, "no master")
    await away(peer_v3.mine)
    assets = (
        jetton_asset(odd, name="ODD"),
        jetton_asset(nine, name="NINE"),
        jetton_asset(nobody, name="NONE"),
    )
    log = RecordingLog()
    async with source_of(peer_v3.url, jettons=assets, log=log) as source:
        await source.status()
        reasons = source.disabled_assets()
    assert "none of the ways" in reasons["ODD"]
    assert "has 9 decimals, but the asset file says 6" in reasons["NINE"]
    assert "does not answer get_jetton_data" in reasons["NONE"]
    assert {line.fields["asset"] for line in log.of("asset disabled")} == {"ODD", "NINE", "NONE"}


# --- blocks ---------------------------------------------------------------------------------------


async def test_the_server_says_who_it_is(peer):
    await away(peer.mine, 3)
    async with source_of(peer.url) as source:
        status = await source.status()
        assert status.network == "mainnet"
        assert status.software.startswith("toncenter v")
        assert status.tip.height == await away(peer.height)
        assert status.tip.hash.hex() == await away(peer.tip)
        assert (await source.block_at(status.tip.height)) == status.tip
        assert await source.block_at(status.tip.height + 1) is None


async def test_a_window_ends_in_the_tip_and_begins_at_the_first_block_at_most(peer):
    await away(peer.mine, 30)
    async with source_of(peer.url) as source:
        tip = await source.tip()
        some = await source.window(tip, 20)
        assert [each.height for each in some] == list(range(tip.height - 19, tip.height + 1))
        assert some[-1] == tip
        everything = await source.window(tip, 10_000)
        assert [each.height for each in everything] == list(range(1, tip.height + 1))


async def test_blocks_with_thousands_of_transactions_are_read_whole(peer):
    wallet = await away(peer.wallet, "crowded")
    shop, since = Shop(wallet.account), await away(peer.height)
    ours = [
        {"to": wallet.address, "amount_base": str(number), "bounce": False}
        for number in range(1, 1300)
    ]
    await away(peer.flood, 1000, ours)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        found = await paid(source, peer, shop, since=since)
    assert sorted(each[2] for each in found) == list(range(1, 1300))


async def test_amounts_above_the_largest_64_bit_number_are_exact(peer):
    wallet = await away(peer.wallet, "rich")
    shop, since = Shop(wallet.account), await away(peer.height)
    amount = 2**100 + 1
    await away(peer.flood, 0, [{"to": wallet.address, "amount_base": str(amount)}])
    await away(peer.mine)
    async with source_of(peer.url) as source:
        assert await paid(source, peer, shop, since=since) == [(wallet.account, "TON", amount, 0)]


async def test_addresses_given_out_after_a_block_was_fetched_are_matched_in_it(peer_v3):
    early, late = await away(peer_v3.wallet, "early"), await away(peer_v3.wallet, "late")
    since = await away(peer_v3.height)
    shop = Shop(early.account)
    for wallet in (early, late):
        await away(peer_v3.pay, wallet, AMOUNT)
        await away(peer_v3.mine)
    async with source_of(peer_v3.url) as source, source.signals(shop.index):
        reader = source.read_blocks(range(since + 1, since + 3), shop.index)
        found = [await anext(reader)]
        shop.open(late.account)
        found.append(await anext(reader))
    assert [tx.outputs[0].destination for _, txs in found for tx in txs] == [
        early.account,
        late.account,
    ]


async def test_the_coin_is_an_asset_without_a_contract():
    assert COIN.contract is None


async def test_nothing_is_asked_twice_of_blocks_that_do_not_concern_us(peer_v3):
    shop, since = Shop(bytes(33)), await away(peer_v3.height)
    for _ in range(40):
        await away(peer_v3.flood, 5)
        await away(peer_v3.mine)
    async with source_of(peer_v3.url) as source, source.signals(shop.index):
        await source.tip()
        await away(peer_v3.forget_requests)
        assert len(await read(source, range(since + 1, since + 41), shop)) == 40
        requests = await away(peer_v3.requests)
    transactions = requests["/api/v3/transactionsByMasterchainBlock"]
    assert transactions == 40
    assert sum(requests.values()) <= 2 * 40
