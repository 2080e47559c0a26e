"""Seals what must not be read by others: Monero's private view keys, secrets of webhooks.

XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under one key of 32 bytes, with a fresh random nonce
for each secret. What is sealed is bound to the chain and the public keys it belongs to: a row of
the database whose parts were exchanged does not open.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_ABYTES,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError

from actors.ports import Account, PersistentError
from daemon.keys.vault_key import KEY_BYTES, KeyPlace

NONCE_BYTES: int = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
TAG_BYTES: int = crypto_aead_xchacha20poly1305_ietf_ABYTES
_FORM = b"\x01"
"""First byte of what is sealed: this way of sealing."""


WEBHOOK = "webhook"
"""The chain, so to speak, that secrets of webhooks are bound to."""


class Sealed(Protocol):
    """Something that is stored sealed: an account, a webhook's secret."""

    @property
    def chain(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def secret(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class SealedWebhook:
    """The secret of the webhook with the id `key`."""

    key: str
    secret: bytes = field(repr=False)
    chain: str = WEBHOOK


class Vault:
    """Seals and opens; the key is read, or made, when it is needed first.

    Every method but `check` raises PersistentError, naming the setting, when the key cannot be had
    or is not the one that stored secrets were sealed with.
    """

    def __init__(self, place: KeyPlace, *, warn: Callable[[str], None]) -> None:
        """`warn` is told once, in a sentence, when the key is taken from the default place."""
        self.place = place
        self._warn = warn
        self._key: bytes | None = None
        self._problem: PersistentError | None = None

    def __repr__(self) -> str:
        return f"<Vault {self.place}>"

    def check(self, stored: Iterable[Sealed]) -> str | None:
        """Why the key does not open the accounts' secrets, for people; None if it opens them all.

        From then on nothing is sealed or opened unless it does: what is sealed under two keys can
        never be opened by one daemon. Makes no key.
        """
        sealed = [account for account in stored if account.secret is not None]
        self._problem = None
        try:
            key = self.place.read()
            if key is not None:
                self._check_size(key)
            self._compare(key, sealed)
        except PersistentError as error:
            self._problem = error
            return str(error)
        return None

    def require(self) -> None:
        """Have the key ready; makes the default one if there is none."""
        self._ready()

    def seal(self, secret: bytes, *, chain: str, key: str) -> bytes:
        """`secret` of the key that is canonically `key`, for the store."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        box: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(
            secret, _bound_to(chain, key), nonce, self._ready()
        )
        return _FORM + nonce + box

    def open(self, account: Account) -> bytes:
        """The account's secret."""
        if account.secret is None:
            raise PersistentError(
                f"the view key of user {account.user_id} on {account.chain} is not stored: the"
                " user's keys must be set again"
            )
        found = _opened(self._ready(), account)
        if found is None:
            raise PersistentError(_wrong(self.place, [account], 1))
        return found

    def open_webhook(self, sealed: SealedWebhook) -> bytes:
        """The webhook's secret."""
        found = _opened(self._ready(), sealed)
        if found is None:
            raise PersistentError(_wrong(self.place, [sealed], 1))
        return found

    def _compare(self, key: bytes | None, sealed: list[Sealed]) -> None:
        if key is None:
            if sealed:
                raise PersistentError(
                    f"{self.place} does not exist, but {len(sealed)} {_what(sealed)} in the"
                    " database were sealed with the key in it: restore it from a backup. Nothing"
                    " was changed"
                )
            if not self.place.default:
                raise self.place.missing()
            return
        shut = sum(_opened(key, account) is None for account in sealed)
        if shut:
            raise PersistentError(_wrong(self.place, sealed, shut))

    def _ready(self) -> bytes:
        if self._problem is not None:
            raise PersistentError(str(self._problem))
        if self._key is None:
            self._key = self.place.read() or self.place.make()
            self._check_size(self._key)
            if self.place.default:
                self._warn(
                    f"view keys are stored under the key in {self.place.file}, the default: a copy"
                    " of the state folder is enough to read them. Set vault.key, best as the"
                    " systemd credential vault_key, and keep a copy of it apart from the"
                    " database's"
                )
        return self._key

    @staticmethod
    def _check_size(key: bytes) -> None:
        assert len(key) == KEY_BYTES, "settings and files are checked for their 64 digits"


def _opened(key: bytes, account: Sealed) -> bytes | None:
    sealed = account.secret
    assert sealed is not None
    nonce, box = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if sealed[:1] != _FORM or len(box) < TAG_BYTES:
        return None
    try:
        opened: bytes = crypto_aead_xchacha20poly1305_ietf_decrypt(
            box, _bound_to(account.chain, account.key), nonce, key
        )
    except CryptoError:
        return None
    return opened


def _bound_to(chain: str, key: str) -> bytes:
    return f"{chain}\0{key}".encode()


def _what(sealed: Iterable[Sealed]) -> str:
    kinds = {one.chain == WEBHOOK for one in sealed}
    names = (("view keys", False), ("webhook secrets", True))
    return " and ".join(name for name, is_webhook in names if is_webhook in kinds)


def _wrong(place: KeyPlace, sealed: list[Sealed], shut: int) -> str:
    which = "all" if shut == len(sealed) else f"{shut} of the"
    return (
        f"{place} is not the key that {which} {len(sealed)} {_what(sealed)} in the database were"
        " sealed with: restore the right one. Nothing was changed"
    )
