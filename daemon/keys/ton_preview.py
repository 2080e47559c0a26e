"""What `tallyd keys preview TON KEY` tells: the wallets of a key, in both contracts and modes."""

from __future__ import annotations

from actors.core.outcomes import KeyRefused
from daemon.keys.preview_page import FIRST_MINOR, NetworkForm, Preview
from daemon.keys.ton import TonKey, parse
from daemon.keys.ton_address import friendly
from daemon.keys.ton_comment import comment_for
from daemon.keys.ton_wallet import DEFAULT_SUBWALLET, NETWORKS, Wallet, wallet_address

OWN = "own"
"""The path of the wallet that apps show."""
_KINDS = {
    Wallet.V4R2: "wallet v4r2 (the default)",
    Wallet.V5R1: "wallet v5r1 (coin.ton.wallet: v5r1)",
}
_EXAMPLE = comment_for(account=1, minor=FIRST_MINOR)
_NOTES = (
    (
        f"compare with your wallet: `{OWN}` must be the address that it shows, in the list of its"
        " contract. If it is not there, the key is another wallet's, or not a public key: a private"
        " one looks just like it."
    ),
    (
        "each invoice gets a wallet of its own, 0/1, 0/2, ...: the same contract with another"
        f" subwallet id. v4r2: {DEFAULT_SUBWALLET} + n for 0/n. v5r1: subwallet number n up to"
        " 32767, above that the wallet id is made of n alone. Wallet apps show none of them: see"
        " docs/chains.md for how to spend from them, and plan how you will collect the money, for"
        " each must pay its own fees."
    ),
    (
        f"with coin.ton.invoices: comment every invoice gets the address `{OWN}` and a comment of"
        f" its own, such as {_EXAMPLE}; money that comes without it, or with another, belongs to no"
        " invoice."
    ),
    (
        "the contract and the mode hold for new invoices; those that exist keep what they were"
        " given."
    ),
)


def preview_ton(chain: str, text: str, *, network: str | None, count: int) -> Preview | KeyRefused:
    """Of each contract the key's own wallet and the first `count` of invoices; see `preview`."""
    key = parse(chain, text)
    if isinstance(key, KeyRefused):
        return key
    return Preview(
        coin="TON",
        key=key.description,
        script="TON wallet, non-bounceable form",
        path=f"wallet {FIRST_MINOR}, {FIRST_MINOR + 1}, {FIRST_MINOR + 2}, ... of the key",
        forms=tuple(
            _form(key, wallet, one, count)
            for one in NETWORKS
            if network in (None, one)
            for wallet in Wallet
        ),
        warnings=(),
        notes=_NOTES,
    )


def _form(key: TonKey, wallet: Wallet, network: str, count: int) -> NetworkForm:
    numbers = {f"0/{number}": number for number in range(FIRST_MINOR, FIRST_MINOR + count)}
    return NetworkForm(
        networks=(network,),
        addresses=tuple(
            (
                path,
                friendly(
                    wallet_address(key.point, wallet, number=number, network=network),
                    test=network != "mainnet",
                ),
            )
            for path, number in {OWN: 0, **numbers}.items()
        ),
        kind=_KINDS[wallet],
    )
