"""Watch-only keys: what a person gives, checked; and the addresses below it.

    text ──▶ extended.parse ──▶ ExtendedKey ──▶ node.ChainNode ──▶ forms.AddressForm ──▶ Derived
                  └── refused ──▶ diagnosis: which mistake it was, in words
    text ──▶ monero.parse ──▶ MoneroKeys ──▶ vault.seal ──▶ the store ──▶ vault.open ──▶ Derived
                                                                              └──▶ ViewKeys
    text ──▶ ton.parse ──▶ TonKey ──▶ ton_wallet.wallet_address ──▶ Derived

Nothing here can spend. The one secret, Monero's view key, is sealed before it is stored. The only
package that imports bip_utils.
"""

from daemon.keys.deriver import Deriver, DeriverStatistics
from daemon.keys.keyring import Keyring
from daemon.keys.ton_deriver import TonForm
from daemon.keys.ton_wallet import Wallet
from daemon.keys.vault import WEBHOOK, Sealed, SealedWebhook, Vault
from daemon.keys.vault_key import KeyPlace
from daemon.keys.view_keys import ViewKeys

__all__ = [
    "WEBHOOK",
    "Deriver",
    "DeriverStatistics",
    "KeyPlace",
    "Keyring",
    "Sealed",
    "SealedWebhook",
    "TonForm",
    "Vault",
    "ViewKeys",
    "Wallet",
]
