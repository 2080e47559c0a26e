"""From a user's TON key to the wallets, or the comments, of invoices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.core.assets import Chain
from actors.core.outcomes import KeyRefused
from actors.ports import Account, Derived, PersistentError, PublicKey
from daemon.keys.ton import parse
from daemon.keys.ton_address import friendly
from daemon.keys.ton_comment import comment_for
from daemon.keys.ton_wallet import NETWORKS, Wallet, wallet_address


@dataclass(frozen=True, slots=True)
class TonForm:
    """What new invoices get: a wallet each, or with `comments` one wallet and a comment each."""

    wallet: Wallet = Wallet.V4R2
    comments: bool = False


class TonDeriver:
    """The AddressDeriver of TON; a destination is the 33 bytes of `ton_address`, and for an invoice
    with a comment a zero byte and the comment behind them.

    Holds nothing: a wallet's address takes less than 0.1 ms.
    """

    def __init__(self, forms: Mapping[str, TonForm] | None = None) -> None:
        """`forms` by chain; TonForm() for chains that are not named."""
        self._forms = dict(forms or {})

    def parse_key(self, chain: Chain, text: str) -> PublicKey | KeyRefused:
        """See `AddressDeriver` and `ton.parse`."""
        key = parse(chain.id, text)
        if isinstance(key, KeyRefused):
            return key
        return PublicKey(chain.id, key.canonical, key.description)

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        """Wallet `minor`, or wallet 0 with the comment of `minor`; major is 0.

        Raises PersistentError for an unknown network, and when the wallets of the key are used up;
        ValueError for a minor outside of 0..2**31-1.
        """
        if network not in NETWORKS:
            raise PersistentError(
                f"{chain.id}: no address form is known for the network {network!r}; known are"
                f" {', '.join(NETWORKS)}. Check coin.{chain.id}.network."
            )
        if major != 0:
            raise PersistentError(
                f"{chain.id}: every wallet of this key has been given out: give a new key"
            )
        form = self._forms.get(chain.id, TonForm())
        address = wallet_address(
            bytes.fromhex(account.key),
            form.wallet,
            number=0 if form.comments else minor,
            network=network,
        )
        text = friendly(address, test=network != "mainnet")
        if not form.comments:
            return Derived(text, address)
        comment = comment_for(account=account.id, minor=minor)
        return Derived(text, address + b"\0" + comment.encode("ascii"), comment)
