"""The vault: its key, how secrets are sealed, and what happens when the two do not fit."""

import os
import re
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

from actors.ports import Account, PersistentError
from daemon.keys.vault import NONCE_BYTES, TAG_BYTES, WEBHOOK, SealedWebhook
from tests.daemon.keys.vaults import vault_in, vault_of

SECRET = bytes(range(100, 132))
OTHER_KEY = b"\x07" * 32


def account_of(sealed, *, chain="xmr", key="canonical", number=1):
    return Account(number, UUID(int=5), chain, key, sealed)


def stored(vault, **more):
    account = account_of(None, **more)
    return replace(account, secret=vault.seal(SECRET, chain=account.chain, key=account.key))


def test_what_is_sealed_opens_and_shows_nothing():
    vault = vault_of()
    account = stored(vault)
    assert vault.open(account) == SECRET
    assert vault_of().open(account) == SECRET, "another start of the daemon"
    assert SECRET not in account.secret
    assert len(account.secret) == 1 + NONCE_BYTES + len(SECRET) + TAG_BYTES
    assert stored(vault).secret != account.secret, "a nonce is never used twice"
    for shown in (repr(vault), str(vault.place), repr(vault.place)):
        assert bytes(range(32)).hex() not in shown
        assert repr(bytes(range(32)))[2:-1] not in shown


def test_a_known_answer():
    """The published vector of the construction (draft-irtf-cfrg-xchacha-03, A.3.1)."""
    sealed = encrypt(
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the"
        b" future, sunscreen would be it.",
        bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
        bytes(range(0x40, 0x58)),
        bytes(range(0x80, 0xA0)),
    )
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"


@pytest.mark.parametrize(
    "change",
    [{"chain": "other"}, {"key": "another"}, {"secret": b""}, {"secret": b"\x01"}],
)
def test_what_belongs_to_another_key_or_is_cut_off_does_not_open(change):
    vault = vault_of()
    with pytest.raises(PersistentError, match=r"^vault\.key .* is not the key that all 1 view"):
        vault.open(replace(stored(vault), **change))


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 72), bit=st.integers(0, 7))
def test_one_wrong_bit_is_noticed(position, bit):
    vault = vault_of()
    account = stored(vault)
    changed = bytearray(account.secret)
    changed[position] ^= 1 << bit
    with pytest.raises(PersistentError):
        vault.open(replace(account, secret=bytes(changed)))


def test_a_secret_that_is_not_there_says_what_to_do():
    with pytest.raises(PersistentError, match="the user's keys must be set again"):
        vault_of().open(account_of(None))


def test_another_key_is_noticed_at_start_and_seals_nothing():
    accounts = [stored(vault_of(), key=f"canonical {n}") for n in range(3)]
    vault = vault_of(OTHER_KEY)
    problem = vault.check(accounts)
    assert "vault.key (environment A_TEST) is not the key that all 3 view keys" in problem
    for attempt in (
        vault.require,
        lambda: vault.seal(SECRET, chain="xmr", key="k"),
        lambda: vault.open(accounts[0]),
    ):
        with pytest.raises(PersistentError, match=re.escape(problem)):
            attempt()
    mixed = [*accounts, stored(vault_of(OTHER_KEY), key="new")]
    assert "is not the key that 3 of the 4 view keys" in vault.check(mixed)
    assert vault.check([account_of(None)]) is None, "who has no secret needs no key"
    vault.require()


def test_the_default_key_is_made_once_with_a_warning(tmp_path):
    said = []
    vault = vault_in(tmp_path, said=said)
    assert vault.check([]) is None
    assert not vault.place.file.exists(), "checking makes nothing"
    account = stored(vault)
    assert vault.place.file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", vault.place.file.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["vault.key"]
    stored(vault)
    assert len(said) == 1
    assert str(vault.place.file) in said[0]
    assert "a copy of the state folder is enough to read them. Set vault.key" in said[0]
    assert vault.place.file.read_text().strip() not in said[0]
    assert vault_in(tmp_path).open(account) == SECRET


def test_who_makes_the_key_second_takes_the_first_s(tmp_path):
    first, second = vault_in(tmp_path), vault_in(tmp_path)
    assert second.place.make() == first.place.make() == second.place.read()
    # What a crash left does not stand in the way.
    (tmp_path / "vault.key").unlink()
    (tmp_path / f".vault.key.{os.getpid()}").write_text("half a k")
    assert first.place.make() == first.place.read()


def test_a_key_that_was_deleted_is_not_made_anew(tmp_path):
    vault = vault_in(tmp_path)
    account = stored(vault)
    vault.place.file.unlink()
    after = vault_in(tmp_path)
    problem = after.check([account])
    assert "vault.key, by default) does not exist, but 1 view keys in the database" in problem
    with pytest.raises(PersistentError, match="restore it from a backup"):
        after.require()
    assert not vault.place.file.exists()


def test_a_file_that_a_person_named_is_made_by_nobody_else(tmp_path):
    vault = vault_in(tmp_path, default=False)
    assert "vault.key, tallyd.yml:1) does not exist; make it" in vault.check([])
    with pytest.raises(PersistentError, match=r"umask 077; openssl rand -hex 32"):
        vault.require()
    said = []
    (tmp_path / "vault.key").write_text("Ab" * 32)
    (tmp_path / "vault.key").chmod(0o600)
    vault = vault_in(tmp_path, default=False, said=said)
    assert vault.check([]) is None
    assert vault.open(stored(vault_of(b"\xab" * 32))) == SECRET
    assert said == []


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path, mode):
    vault = vault_in(tmp_path)
    vault.require()
    vault.place.file.chmod(mode)
    problem = vault_in(tmp_path).check([])
    assert f"can be read or written by others (mode {mode:04o}); chmod 600 it" in problem


def test_a_group_that_may_read_is_refused_but_for_root_s(tmp_path, monkeypatch):
    vault = vault_in(tmp_path)
    vault.require()
    vault.place.file.chmod(0o640)
    for group, refused in ((0, False), (1000, True)):
        real = os.fstat

        def fstat(fd, group=group, real=real):
            return os.stat_result([*real(fd)[:5], group, *real(fd)[6:10]])

        with monkeypatch.context() as patched:
            patched.setattr("daemon.keys.vault_key.os.fstat", fstat)
            assert (vault_in(tmp_path).check([]) is not None) is refused


@pytest.mark.parametrize("content", ["", "ab" * 31, "ab" * 33, "g" * 64, "ab" * 32 + "\nx"])
def test_a_file_without_a_key_is_refused_and_not_repeated(tmp_path, content):
    file = tmp_path / "vault.key"
    file.write_text(content)
    file.chmod(0o600)
    problem = vault_in(tmp_path).check([])
    assert "does not hold a key: 64 hexadecimal digits are expected" in problem
    assert len(content) < 8 or content[:8] not in problem
    assert file.read_text() == content


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    vault = vault_in(tmp_path / "absent")
    with pytest.raises(PersistentError, match=r"cannot be made .*make the state folder writable"):
        vault.require()
    (tmp_path / "vault.key").mkdir()
    assert "cannot be read: Is a directory" in vault_in(tmp_path).check([])


def webhook(vault, key="an id"):
    return SealedWebhook(key, vault.seal(SECRET, chain=WEBHOOK, key=key))


def test_a_webhooks_secret_opens_for_that_webhook_alone():
    vault = vault_of()
    sealed = webhook(vault)
    assert vault.open_webhook(sealed) == SECRET
    with pytest.raises(PersistentError, match="is not the key that all 1 webhook secrets"):
        vault.open_webhook(replace(sealed, key="another id"))


def test_both_kinds_of_secrets_are_checked_and_named():
    vault, other = vault_of(), vault_of(OTHER_KEY)
    assert vault.check([stored(vault), webhook(vault)]) is None
    problem = other.check([stored(vault), webhook(vault)])
    assert "all 2 view keys and webhook secrets" in problem
    with pytest.raises(PersistentError, match="is not the key"):
        other.seal(SECRET, chain=WEBHOOK, key="an id")
