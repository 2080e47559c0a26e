"""Addresses of invoices below sealed Monero keys, and the view keys that see payments to them."""

from dataclasses import replace
from uuid import UUID

import pytest

from actors.core.assets import Chain
from actors.core.outcomes import KeyRefused
from actors.ports import Account, PersistentError, PublicKey
from daemon.keys import Keyring, ViewKeys
from daemon.keys.monero_address import public_key
from daemon.keys.monero_deriver import MoneroDeriver
from tests.daemon.keys import monero_samples as samples
from tests.daemon.keys.monero_samples import GOIPAY_SPEND, GOIPAY_VIEW, SPEND, VIEW
from tests.daemon.keys.samples import BTC, XMR, ZPUB
from tests.daemon.keys.vaults import vault_of

MINE, GOIPAYS = f"{VIEW}:{SPEND}", f"{GOIPAY_VIEW}:{GOIPAY_SPEND}"


def account_for(deriver, text, *, chain=XMR, number=1):
    key = deriver.parse_key(chain, text)
    assert isinstance(key, PublicKey), key
    return Account(number, UUID(int=number), chain.id, key.canonical, key.secret)


def test_the_parsed_key_holds_the_view_key_sealed_only():
    key = MoneroDeriver(vault_of()).parse_key(XMR, MINE)
    assert (key.chain, key.canonical) == ("xmr", SPEND + samples.VIEW_PUBLIC)
    assert bytes.fromhex(VIEW) not in key.secret
    assert VIEW[:8] not in f"{key!r} {key.description}"
    assert MoneroDeriver(vault_of()).parse_key(XMR, MINE.upper()).canonical == key.canonical
    refused = MoneroDeriver(vault_of()).parse_key(XMR, "nonsense")
    assert isinstance(refused, KeyRefused)


def test_vectors_and_destinations():
    deriver = MoneroDeriver(vault_of())
    account = account_for(deriver, MINE)
    for (major, minor), expected in samples.ADDRESSES.items():
        found = deriver.derive(XMR, account, network="mainnet", major=major, minor=minor)
        assert found.address == expected
        own, _ = samples.subaddress(bytes.fromhex(VIEW), bytes.fromhex(SPEND), major, minor)
        assert found.destination == own + public_key(bytes.fromhex(VIEW))
    goipay = account_for(deriver, GOIPAYS, number=2)
    first = deriver.derive(XMR, goipay, network="stagenet", major=0, minor=1)
    assert first.address == samples.GOIPAY_FIRST
    again = deriver.derive(XMR, goipay, network="testnet", major=0, minor=1)
    assert (again.address[0], again.destination) == ("B", first.destination)


def test_view_keys_are_there_with_the_first_address_and_each_once():
    deriver = MoneroDeriver(vault_of())
    ring = deriver.view_keys("xmr")
    mine, goipays = account_for(deriver, MINE), account_for(deriver, GOIPAYS, number=2)
    assert ring.keys() == (), "a key without addresses sees nothing"
    for _ in range(2):
        deriver.derive(XMR, mine, network="mainnet", major=0, minor=1)
    assert ring.keys() == (bytes.fromhex(VIEW),)
    before = ring.keys()
    # Another public spend key with the same view key is another wallet seen by the same key.
    twin = account_for(deriver, f"{VIEW}:{GOIPAY_SPEND}", number=3)
    deriver.derive(XMR, twin, network="mainnet", major=0, minor=1)
    assert ring.keys() is before
    deriver.derive(XMR, goipays, network="mainnet", major=0, minor=1)
    assert ring.keys() == (bytes.fromhex(VIEW), bytes.fromhex(GOIPAY_VIEW))
    assert deriver.view_keys("xmr") is ring
    assert deriver.view_keys("other").keys() == ()
    assert VIEW[:8] not in repr(ring)
    assert repr(ring) == "<ViewKeys: 2>"


def test_stored_accounts_are_watched_at_start():
    first = MoneroDeriver(vault_of())
    stored = [account_for(first, MINE), account_for(first, GOIPAYS, number=2)]
    second = MoneroDeriver(vault_of())
    ring = second.view_keys("xmr")
    second.watch(stored)
    assert ring.keys() == (bytes.fromhex(VIEW), bytes.fromhex(GOIPAY_VIEW))
    with pytest.raises(PersistentError, match="must be set again"):
        second.watch([replace(stored[0], secret=None)])
    with pytest.raises(PersistentError, match=r"vault\.key"):
        MoneroDeriver(vault_of(b"\1" * 32)).watch(stored)


def test_what_cannot_be_derived():
    deriver = MoneroDeriver(vault_of())
    account = account_for(deriver, MINE)
    with pytest.raises(PersistentError, match=r"'main'.*mainnet, stagenet.*coin\.xmr\.daemon\.url"):
        deriver.derive(XMR, account, network="main", major=0, minor=1)
    with pytest.raises(ValueError, match="there is no subaddress 0/0"):
        deriver.derive(XMR, account, network="mainnet", major=0, minor=0)
    with pytest.raises(PersistentError, match=r"view key of user .* must be set again"):
        MoneroDeriver(vault_of()).derive(
            XMR, replace(account, secret=None), network="mainnet", major=0, minor=1
        )
    assert deriver.view_keys("xmr").keys() == ()


def test_revealing_gives_what_was_given():
    deriver = MoneroDeriver(vault_of())
    assert deriver.reveal(account_for(deriver, MINE.upper())) == (VIEW, SPEND)


def test_the_cache_is_bounded():
    deriver = MoneroDeriver(vault_of(), capacity=1)
    mine, goipays = account_for(deriver, MINE), account_for(deriver, GOIPAYS, number=2)
    for account in (mine, mine, goipays, mine):
        deriver.derive(XMR, account, network="mainnet", major=0, minor=1)
    found = deriver.statistics()
    assert (found.cached, found.capacity, found.hits, found.misses) == (1, 1, 1, 3)
    assert len(deriver.view_keys("xmr").keys()) == 2, "what is watched is forgotten never"


def test_a_ring_keeps_the_order_and_the_object():
    ring = ViewKeys()
    ring.add()
    empty = ring.keys()
    assert empty == ()
    ring.add(b"b" * 32, b"a" * 32, b"b" * 32)
    assert ring.keys() == (b"b" * 32, b"a" * 32)
    with pytest.raises(AssertionError):
        ring.add(b"short")


def test_a_keyring_knows_who_knows_the_keys():
    keyring = Keyring(vault_of())
    btc = keyring.parse_key(BTC, ZPUB)
    account = Account(1, UUID(int=1), "btc", btc.canonical)
    found = keyring.derive(BTC, account, network="main", major=0, minor=1)
    assert found.address == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"
    assert btc.secret is None
    xmr = account_for(keyring, MINE)
    found = keyring.derive(XMR, xmr, network="mainnet", major=0, minor=1)
    assert found.address == samples.ADDRESSES[0, 1]
    doge = Chain("doge", "Dogecoin", "bitcoin", "DOGE", 60.0, 10)
    refused = keyring.parse_key(doge, ZPUB)
    assert "makes no addresses for Dogecoin" in refused.reason
