"""The vault at start, and what `tallyd check` says of it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from actors.ports import PersistentError, PublicKey
from actors.wallet_book import Wallet
from daemon.catalogue import load_catalogue
from daemon.commands.check import Verdict, findings
from daemon.config import Flags, load_config
from daemon.store import MemoryStore, open_store
from daemon.unlock import key_place, open_keyring
from tests.daemon.keys.monero_samples import GOIPAY_SPEND, GOIPAY_VIEW, SPEND, VIEW
from tests.helpers.recording_log import RecordingLog

ALICE, BOB = UUID(int=1), UUID(int=2)
XMR = {"XMR_DAEMON_URL": "http://127.0.0.1:1"}
KEY = {"TALLY_VAULT_KEY": "ab" * 32}
WRONG = {"TALLY_VAULT_KEY": "cd" * 32}
CHAIN = load_catalogue().chains["xmr"]


@pytest.fixture
def config(tmp_path):
    def load(*parts):
        environ = {"HOME": "/h", "STATE_DIRECTORY": str(tmp_path)}
        for part in parts:
            environ |= part
        return load_config(Flags(), environ=environ)

    return load


async def give(config, store, user_id, text):
    """What UpdateCryptoKeys does."""
    keyring = await open_keyring(config, store, log=RecordingLog())
    await store.add_user(user_id, at_ms=1)
    key = keyring.parse_key(CHAIN, text)
    assert isinstance(key, PublicKey)
    assert await store.set_keys(user_id, [key], at_ms=1) is None
    account = await store.account(user_id, "xmr")
    assert account is not None
    return account


def said(log):
    return " ".join(f"{line.level} {line.event} {line.fields}" for line in log.lines)


async def test_view_keys_of_accounts_with_addresses_are_open_before_any_chain_starts(config):
    store = MemoryStore()
    mine = await give(config(XMR, KEY), store, ALICE, f"{VIEW}:{SPEND}")
    await give(config(XMR, KEY), store, BOB, f"{GOIPAY_VIEW}:{GOIPAY_SPEND}")
    await store.allocate_index(mine.id)
    log = RecordingLog()
    keyring = await open_keyring(config(XMR, KEY), store, log=log)
    assert keyring.monero.view_keys("xmr").keys() == (bytes.fromhex(VIEW),)
    assert log.lines == []
    again = await open_keyring(config(KEY), store, log=log)
    assert again.monero.view_keys("xmr").keys() == (), "a chain that is off is not scanned"


async def test_the_view_keys_of_wallets_are_open_too_current_or_not(config):
    store = MemoryStore()
    current = await give(config(XMR, KEY), store, ALICE, f"{GOIPAY_VIEW}:{GOIPAY_SPEND}")
    keyring = await open_keyring(config(XMR, KEY), store, log=RecordingLog())
    key = keyring.parse_key(CHAIN, f"{VIEW}:{SPEND}")
    assert isinstance(key, PublicKey)
    wallet = await store.wallets.add_wallet(ALICE, name="shop", keys=[key], assets=(), at_ms=1)
    assert isinstance(wallet, Wallet)
    assert await store.account(ALICE, "xmr") == current
    await store.allocate_index(wallet.accounts["xmr"])
    # Its invoices go on when the wallet has another key.
    assert await store.wallets.change_wallet(replace(wallet, accounts={}), [], at_ms=2)
    log = RecordingLog()
    keyring = await open_keyring(config(XMR, KEY), store, log=log)
    assert keyring.monero.view_keys("xmr").keys() == (bytes.fromhex(VIEW),)
    assert log.lines == []
    with pytest.raises(PersistentError, match="is not the key"):
        await open_keyring(config(XMR, WRONG), store, log=log)


async def test_a_wrong_key_stops_the_start_and_changes_nothing(config, tmp_path):
    store = MemoryStore()
    account = await give(config(XMR, KEY), store, ALICE, f"{VIEW}:{SPEND}")
    text = r"vault\.key \(environment TALLY_VAULT_KEY\) is not the key .* Nothing was changed"
    with pytest.raises(PersistentError, match=text):
        await open_keyring(config(XMR, WRONG), store, log=RecordingLog())
    with pytest.raises(
        PersistentError, match=r"vault\.key_file .* does not exist, but 1 view keys"
    ):
        await open_keyring(config(XMR), store, log=RecordingLog())
    assert await store.account(ALICE, "xmr") == account
    assert list(tmp_path.iterdir()) == []


async def test_with_monero_off_a_wrong_key_is_a_warning_and_view_keys_are_refused(config):
    store = MemoryStore()
    await give(config(XMR, KEY), store, ALICE, f"{VIEW}:{SPEND}")
    log = RecordingLog()
    keyring = await open_keyring(config(WRONG), store, log=log)
    assert "is not the key that all 1 view keys" in said(log)
    with pytest.raises(PersistentError, match=r"vault\.key"):
        keyring.parse_key(CHAIN, f"{GOIPAY_VIEW}:{GOIPAY_SPEND}")


async def test_the_default_key_is_made_when_it_is_needed_and_warned_about(config, tmp_path):
    file = tmp_path / "vault.key"
    log = RecordingLog()
    keyring = await open_keyring(config(), MemoryStore(), log=log)
    assert not file.exists()
    assert log.lines == []
    keyring.parse_key(CHAIN, f"{VIEW}:{SPEND}")
    assert file.exists()
    for _ in range(2):
        log = RecordingLog()
        await open_keyring(config(XMR), MemoryStore(), log=log)
        assert [line.level for line in log.lines] == ["warning"]
        assert "a copy of the state folder is enough" in said(log)
        assert file.read_text().strip() not in said(log)


async def test_a_view_key_that_is_not_stored_is_an_error_that_names_the_user(config):
    store = MemoryStore()
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [PublicKey("xmr", "canonical", "")], at_ms=1)
    account = await store.account(ALICE, "xmr")
    assert account is not None
    await store.allocate_index(account.id)
    log = RecordingLog()
    await open_keyring(config(XMR, KEY), store, log=log)
    (line,) = log.lines
    assert (line.level, line.fields) == ("error", {"chain": "xmr", "user": str(ALICE)})


async def test_given_again_under_another_vault_key_it_opens(config):
    """The way out when the key was lost: the column emptied, the keys given again."""
    store = MemoryStore()
    await store.add_user(ALICE, at_ms=1)
    lost = PublicKey(
        "xmr", (await give(config(KEY), MemoryStore(), ALICE, f"{VIEW}:{SPEND}")).key, ""
    )
    await store.set_keys(ALICE, [lost], at_ms=1)
    before = await store.account(ALICE, "xmr")
    assert before is not None
    await store.allocate_index(before.id)
    after = await give(config(XMR, WRONG), store, ALICE, f"{VIEW}:{SPEND}")
    assert after.id == before.id
    keyring = await open_keyring(config(XMR, WRONG), store, log=RecordingLog())
    assert keyring.monero.view_keys("xmr").keys() == (bytes.fromhex(VIEW),)


def test_the_place_names_where_the_setting_came_from(config):
    assert str(key_place(config(KEY))) == "vault.key (environment TALLY_VAULT_KEY)"
    assert "ab" * 8 not in repr(key_place(config(KEY)))
    place = key_place(config({"TALLY_VAULT_KEY_FILE": "/own.key"}))
    assert str(place) == "vault.key_file (/own.key, environment TALLY_VAULT_KEY_FILE)"


async def told(config):
    return [
        (finding.verdict, finding.text)
        async for finding in findings(config)
        if finding.subject == "vault"
    ]


async def test_check_shows_the_vault(config, tmp_path):
    url = {"TALLY_DATABASE_URL": f"sqlite:///{tmp_path / 'tally.db'}"}
    assert await told(config(url)) == [], "who has no Monero needs none"
    file = tmp_path / "vault.key"
    ((verdict, text),) = await told(config(url, XMR))
    assert (verdict, "will be made when it is needed" in text) == (Verdict.WARNING, True)
    assert not file.exists(), "looking makes nothing"
    async with open_store(url["TALLY_DATABASE_URL"], on_commit=lambda _: None) as store:
        await give(config(XMR, KEY), store, ALICE, f"{VIEW}:{SPEND}")
        await store.add_user(BOB, at_ms=1)
        await store.set_keys(BOB, [PublicKey("xmr", "canonical", "")], at_ms=1)
    assert await told(config(url, XMR, KEY)) == [
        (Verdict.OK, "key from vault.key (environment TALLY_VAULT_KEY)"),
        (Verdict.OK, "1 view keys can be opened"),
        (Verdict.WARNING, "1 view keys are not stored: their users' keys must be set"),
    ]
    failed = (await told(config(url, XMR, WRONG)))[0]
    assert failed[0] is Verdict.FAILED
    assert "is not the key that all 1 view keys" in failed[1]
    assert (await told(config(url, WRONG)))[0][0] is Verdict.WARNING
    absent = (await told(config(url, XMR)))[0]
    assert (absent[0], "restore it from a backup" in absent[1]) == (Verdict.FAILED, True)
    file.write_text("ab" * 32)
    file.chmod(0o600)
    assert (await told(config(url, XMR)))[1] == (Verdict.OK, "1 view keys can be opened")
    everything = str([await told(config(url, XMR, one)) for one in ({}, KEY, WRONG)])
    assert not any(secret in everything for secret in (VIEW[:8], "ab" * 8, "cd" * 8))
