"""The keyring at start: the vault checked against what is stored, the view keys at hand."""

from __future__ import annotations

from collections.abc import Sequence

from actors.ports import Account, Directory, Log, Store
from daemon.config import Config
from daemon.keys import KeyPlace, Keyring, Sealed, SealedWebhook, TonForm, Vault, Wallet

FAMILY = "monero"
"""Whose keys have a secret part."""


def key_place(config: Config) -> KeyPlace:
    """Where the configuration says that the vault's key is."""
    vault = config.vault
    setting = "vault.key_file" if vault.key is None else "vault.key"
    return KeyPlace(
        key=None if vault.key is None else bytes.fromhex(vault.key.reveal()),
        file=vault.key_file,
        default=vault.default,
        source=config.settings[setting].source,
    )


async def stored_accounts(config: Config, store: Directory, *, used: bool) -> list[Account]:
    """The accounts whose keys have a secret part, of enabled chains and others."""
    chains = [one.id for one in config.catalogue.chains.values() if one.family == FAMILY]
    return [account for chain in chains for account in await store.accounts(chain, used=used)]


async def stored_webhooks(store: Store) -> list[SealedWebhook]:
    """Every secret of a webhook."""
    return [
        SealedWebhook(str(endpoint.id), secret)
        for endpoint in await store.webhooks.endpoints()
        for secret in (endpoint.secret, endpoint.old_secret)
        if secret is not None
    ]


def needs_vault(config: Config) -> bool:
    """Whether a chain is enabled whose keys have a secret part."""
    return any(coin.chain.family == FAMILY for coin in config.coins.values())


async def open_keyring(
    config: Config, store: Directory, *, log: Log, others: Sequence[Sealed] = ()
) -> Keyring:
    """Everything that chains are scanned with is open when this returns.

    `others` are stored secrets that the vault's key must open as well.

    Raises PersistentError, naming the setting, when the vault's key does not open what is stored
    and a chain that needs it is enabled. While none is, that is only a warning; view keys are
    refused then.
    """
    vault = Vault(key_place(config), warn=log.warning)
    keyring = Keyring(vault, ton=_ton_forms(config))
    problem = vault.check([*await stored_accounts(config, store, used=False), *others])
    if not needs_vault(config):
        if problem is not None:
            log.warning("no view key and no webhook secret can be stored or used", reason=problem)
        return keyring
    vault.require()
    await watch_used(config, store, keyring, log=log)
    return keyring


async def watch_used(config: Config, store: Directory, keyring: Keyring, *, log: Log) -> None:
    """Have the chains scanned for every account that has given out addresses by now.

    Raises PersistentError when the secret of one cannot be opened.
    """
    used = [one for one in await stored_accounts(config, store, used=True) if _enabled(config, one)]
    for account in used:
        if account.secret is None:
            log.error(
                "payments to this user's invoices are not seen: the view key is not stored; set the"
                " user's keys again and restart",
                chain=account.chain,
                user=str(account.user_id),
            )
    keyring.monero.watch(account for account in used if account.secret is not None)


async def watch_account(store: Directory, keyring: Keyring, account_id: int) -> None:
    """Have its chain scanned for this account as well, if that takes a secret.

    Raises PersistentError when the secret cannot be opened.
    """
    account = await store.account_by_id(account_id)
    if account is not None and account.secret is not None:
        keyring.monero.watch([account])


def _ton_forms(config: Config) -> dict[str, TonForm]:
    """By chain, what its new invoices get."""
    return {
        coin.coin: TonForm(wallet=Wallet(coin.ton.wallet), comments=coin.ton.comments)
        for coin in config.coins.values()
        if coin.ton is not None
    }


def _enabled(config: Config, account: Account) -> bool:
    return account.chain in config.coins
