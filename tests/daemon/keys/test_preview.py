"""What a person is told of a key before using it."""

import json
import math
from uuid import UUID

import pytest

from actors.core.outcomes import KeyRefused
from actors.ports import Account
from daemon.keys import Deriver
from daemon.keys.advice import gap_limit
from daemon.keys.monero_address import is_scalar, public_key
from daemon.keys.preview import MAX_ADDRESSES, Preview, preview
from daemon.keys.versions import VERSIONS
from tests.daemon.keys import monero_samples as monero
from tests.daemon.keys import reference, samples
from tests.daemon.keys import ton_samples as ton
from tests.daemon.keys.samples import BTC, XPUB, YPUB, ZPRV, ZPUB

BY_PREFIX = {version.prefix: version for version in VERSIONS}


def rewritten(prefix="zpub", *, depth=3, number=2**31):
    payload = reference.base58_decode(ZPUB)
    parent = payload[5:9] if depth else bytes(4)
    head = BY_PREFIX[prefix].public + bytes([depth]) + parent + number.to_bytes(4, "big")
    return reference.base58check_encode(head + payload[13:])


def shown(coin, key, **options):
    found = preview(coin, key, **options)
    assert isinstance(found, Preview), found
    return found


def refused(coin, key, **options):
    found = preview(coin, key, **options)
    assert isinstance(found, KeyRefused), found
    return found


def test_a_good_key_has_no_warning():
    found = shown("btc", ZPUB, network="main", count=2)
    assert found.coin == "BTC"
    assert found.key.startswith("zpub at depth 3 (account 0'), fingerprint ")
    assert found.script == "P2WPKH, native segwit (BIP-84)"
    assert found.path == "<key>/0/1, /0/2, /0/3, ..."
    assert found.warnings == ()
    [form] = found.forms
    assert form.networks == ("main",)
    assert form.addresses[0] == ("0/1", "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g")
    assert [path for path, _ in form.addresses] == ["0/1", "0/2"]


def test_addresses_are_those_of_the_deriver():
    deriver = Deriver()
    key = deriver.parse_key(BTC, ZPUB)
    account = Account(1, UUID(int=1), "btc", key.canonical)
    for form in shown("BTC", ZPUB, count=7).forms:
        for network in form.networks:
            for minor, (path, address) in enumerate(form.addresses, start=1):
                at = {"network": network, "major": 0, "minor": minor}
                assert path == f"0/{minor}"
                assert deriver.derive(BTC, account, **at).address == address


def test_without_a_network_every_form_is_shown_once():
    found = shown("LTC", samples.GOIPAY_LTC)
    assert [form.networks for form in found.forms] == [("main",), ("test",), ("regtest",)]
    assert found.forms[0].addresses[0][1] == "ltc1quc3y9flfnhd9zeg5dm5h4ckzz040ykk495rstl"
    found = shown("BTC", ZPUB)
    assert [form.networks for form in found.forms] == [
        ("main",),
        ("test", "testnet4", "signet"),
        ("regtest",),
    ]


@pytest.mark.parametrize("coin", ["ETH", "eth", " bnb "])
def test_evm_addresses_are_the_same_on_every_network(coin):
    found = shown(coin, samples.GOIPAY_EVM, network="11155111")
    [form] = found.forms
    assert form.networks == ("every network",)
    assert form.addresses[0] == ("0/1", "0x52bDE05866773a211aB01BbaEa9C474B9f24754D")
    assert found.warnings == ()
    assert any("account of its own" in note for note in found.notes)


@pytest.mark.parametrize(
    ("coin", "key", "network", "words"),
    [
        ("BTC", YPUB, None, "nested segwit (P2SH-P2WPKH) addresses"),
        ("BTC", rewritten("upub"), "test", "native segwit account (m/84'/1'/0')"),
        ("LTC", rewritten("Mtub"), "main", "native segwit account (m/84'/2'/0')"),
        ("BTC", rewritten("Zpub"), "main", "key of one signer of a multi-signature (P2WSH) wallet"),
        ("BTC", rewritten("Ypub"), "main", "key of one signer"),
        ("BTC", rewritten("Ltub"), "main", "Litecoin's version"),
        ("LTC", rewritten("dgub"), "main", "Dogecoin's version"),
        ("ETH", rewritten("Ltub"), None, "Litecoin's version"),
        ("ETH", ZPUB, None, "exported by Bitcoin segwit accounts"),
        ("BTC", rewritten("vpub"), "main", "will not show payments on the main network"),
        ("ETH", rewritten("tpub"), None, "will not show payments on the main network"),
        ("BTC", rewritten("vpub"), None, "only with a node on a test network"),
        ("BTC", ZPUB, "regtest", "regtest is a test network"),
        ("BTC", rewritten(depth=0, number=0), "main", "master key (depth 0)"),
        ("BTC", rewritten(depth=4, number=0), "main", "key below an account (depth 4)"),
        ("BTC", rewritten(depth=2), "main", "the key is at depth 2"),
        ("BTC", rewritten(depth=1, number=2**31 + 1), "main", "the key is at depth 1"),
        ("BTC", rewritten("xpub", depth=1), "main", "the key is at depth 1"),
        ("ETH", rewritten("xpub", depth=4, number=0), None, "(m/44'/60'/0', depth 3)"),
    ],
)
def test_warnings(coin, key, network, words):
    [warning] = shown(coin, key, network=network).warnings
    assert words in warning


def test_several_warnings_are_all_given():
    found = shown("BTC", rewritten("Upub", depth=5), network="main")
    assert len(found.warnings) == 3


@pytest.mark.parametrize(
    ("coin", "key", "network"),
    [
        ("BTC", XPUB, "main"),
        ("LTC", rewritten("Ltub"), "main"),
        ("LTC", samples.GOIPAY_LTC, "main"),  # Electrum's depth 1
        ("BTC", rewritten("vpub"), "regtest"),
        ("BTC", samples.GOIPAY_BTC, "signet"),
    ],
)
def test_no_false_alarm(coin, key, network):
    assert shown(coin, key, network=network).warnings == ()


def test_notes():
    notes = "\n".join(shown("LTC", XPUB).notes)
    assert "it must show the address 0/1" in notes
    assert "xpub does not say which script type" in notes
    assert "Litecoin account (m/84'/2'/0')" in notes
    assert "For 10,000 invoices set the gap limit to at least 23 if one in two is paid" in notes
    assert "script type" not in "\n".join(shown("BTC", ZPUB).notes)


@pytest.mark.parametrize(("invoices", "share"), [(10_000, 0.5), (10_000, 0.01), (50, 0.9)])
def test_gap_limit_is_the_least_that_keeps_the_risk(invoices, share):
    limit = gap_limit(invoices=invoices, paid_share=share, risk=0.001)
    expected_runs = [invoices * share * (1 - share) ** k for k in (limit, limit - 1)]
    assert expected_runs[0] <= 0.001 * (1 + 1e-9)
    assert expected_runs[1] > 0.001


def test_gap_limit_at_the_edges():
    assert gap_limit(invoices=1, paid_share=0.5, risk=0.9) == 1
    assert math.isfinite(gap_limit(invoices=10**9, paid_share=1e-9))
    for share in (0, 1, -1, 2):
        with pytest.raises(ValueError, match="between 0 and 1"):
            gap_limit(invoices=10, paid_share=share)


def test_monero_shows_the_wallet_s_address_and_the_first_subaddresses():
    found = shown("xmr", f"{monero.VIEW}:{monero.SPEND}", count=2)
    assert [form.networks for form in found.forms] == [
        ("mainnet", "fakechain"),
        ("stagenet",),
        ("testnet",),
    ]
    assert found.forms[0].addresses == (
        ("primary", monero.PRIMARY),
        ("0/1", monero.ADDRESSES[0, 1]),
        ("0/2", monero.ADDRESSES[0, 2]),
    )
    assert found.warnings == ()
    said = f"{found.render()} {found.json()} {found!r}"
    assert "its primary address must be the one above" in said
    assert "at least 132 if one in ten is paid" in said
    assert monero.VIEW[:8] not in said
    assert all(len(line) <= 106 for line in found.render().splitlines()), "an address and its path"


def test_monero_on_one_network():
    keys = f"{monero.GOIPAY_VIEW}:{monero.GOIPAY_SPEND}"
    [form] = shown("XMR", keys, network="stagenet", count=1).forms
    assert form.addresses[1] == ("0/1", monero.GOIPAY_FIRST)
    found = refused("XMR", keys, network="main")
    assert (found.chain, found.field) == ("xmr", "network")
    assert "known are mainnet, stagenet, testnet, fakechain; did you mean mainnet?" in found.reason
    assert refused("Monero", keys).reason.endswith("did you mean XMR?")
    assert refused("XMR", f"x:{monero.SPEND}").field == "privViewKey"


def test_a_monero_spend_key_that_may_be_private_is_warned_about():
    # The least multiple of the base point that has a number below the group's order as its text.
    point = next(
        text
        for text in (public_key(n.to_bytes(32, "little")) for n in range(1, 1000))
        if is_scalar(text)
    )
    [warning] = shown("XMR", f"{monero.VIEW}:{point.hex()}").warnings
    assert "Make sure that it is the PUBLIC spend key" in warning


def test_render():
    text = shown("BTC", YPUB, count=1).render()
    lines = text.splitlines()
    assert lines[0] == "Coin       BTC"
    assert "On test, testnet4, signet:" in lines
    assert "  0/1      bc1q7eelafnvkcchp0xcffjxeenv7rwaex3jc3v0l0" in lines
    assert any(line.startswith("WARNING: a wallet that exports ypub") for line in lines)
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)
    assert YPUB not in text


def test_json():
    found = shown("BTC", ZPUB, network="main", count=1)
    data = json.loads(found.json())
    assert data["coin"] == "BTC"
    assert data["forms"] == [
        {
            "networks": ["main"],
            "addresses": [{"path": "0/1", "address": "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"}],
        }
    ]
    assert data["warnings"] == []
    assert data["notes"] == list(found.notes)


@pytest.mark.parametrize(("count", "given"), [(0, 1), (-5, 1), (10**9, MAX_ADDRESSES)])
def test_the_count_is_bounded(count, given):
    [form] = shown("BTC", ZPUB, network="main", count=count).forms
    assert len(form.addresses) == given


@pytest.mark.parametrize(
    ("coin", "words"),
    [
        ("BTX", "did you mean BTC?"),
        ("bitcoin", "did you mean BTC?"),
        ("Ethereum", "did you mean ETH?"),
        ("toncoin", "did you mean TON?"),
        ("LTCC", "did you mean LTC?"),
        ("QQQ", "QQQ is not a coin that has such keys; known are BTC, LTC, ETH, BNB, XMR, TON"),
        ("", "the coin comes first (BTC, LTC, ETH, BNB, XMR, TON), then the key"),
        (ZPUB, "the coin comes first"),
        (ZPRV, "must never leave your wallet"),
    ],
)
def test_unknown_coins(coin, words):
    found = refused(coin, ZPUB)
    assert found.field == "coin"
    assert words in found.reason
    assert coin == "" or len(coin) < 20 or coin[:12] not in found.reason


def test_private_keys_are_refused():
    found = refused("LTC", ZPRV)
    assert (found.chain, found.field) == ("ltc", "masterPubKey")
    assert "must never leave your wallet" in found.reason
    assert ZPRV[4:12] not in found.reason


def test_unknown_networks():
    found = refused("BTC", ZPUB, network="Mainnet")
    assert (found.chain, found.field) == ("btc", "network")
    assert "known are main, test, testnet4, signet, regtest; did you mean main?" in found.reason
    assert "did you mean" not in refused("LTC", ZPUB, network="qqq").reason


def test_ton_keys_show_both_contracts_on_both_networks():
    found = shown("ton", ton.KEY, count=2)
    assert (found.coin, found.warnings) == ("TON", ())
    assert ton.KEY[:12] not in found.render()
    kinds = ["wallet v4r2 (the default)", "wallet v5r1 (coin.ton.wallet: v5r1)"]
    assert [(form.networks, form.kind) for form in found.forms] == [
        ((network,), kind) for network in ("mainnet", "testnet") for kind in kinds
    ]
    for form, wallet in zip(found.forms, ["v4r2", "v5r1"] * 2, strict=True):
        assert form.addresses == tuple(
            (path, ton.friendly_of(wallet, form.networks[0], number))
            for path, number in (("own", 0), ("0/1", 1), ("0/2", 2))
        )
    assert "On testnet, wallet v5r1 (coin.ton.wallet: v5r1):" in found.render()
    assert any("comment" in note and "100000308" in note for note in found.notes)


def test_ton_s_networks_and_refusals():
    [v4r2, v5r1] = json.loads(shown("TON", ton.KEY, network="testnet", count=1).json())["forms"]
    assert {*v4r2["networks"], *v5r1["networks"]} == {"testnet"}
    assert v4r2["kind"] == "wallet v4r2 (the default)"
    assert v4r2["addresses"][1] == {
        "path": "0/1",
        "address": ton.friendly_of("v4r2", "testnet", 1),
    }
    assert all("kind" not in form for form in json.loads(shown("BTC", ZPUB).json())["forms"])
    assert refused("TON", ton.KEY, network="main").reason.endswith("did you mean mainnet?")
    found = refused("TON", v4r2["addresses"][0]["address"])
    assert (found.chain, found.field) == ("ton", "masterPubKey")
    assert "this is an address" in found.reason
