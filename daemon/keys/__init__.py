"""Watch-only keys: what a person gives, checked; and the addresses below it. No secret passes here.

    text ──▶ extended.parse ──▶ ExtendedKey ──▶ node.ChainNode ──▶ forms.AddressForm ──▶ Derived
                  └── refused ──▶ diagnosis: which mistake it was, in words

The only package that imports bip_utils.
"""

from daemon.keys.deriver import Deriver, DeriverStatistics

__all__ = ["Deriver", "DeriverStatistics"]
