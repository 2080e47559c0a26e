"""What `tallyd keys preview XMR VIEW SPEND` tells: the subaddresses of a view-only wallet."""

from __future__ import annotations

from actors.core.outcomes import KeyRefused
from daemon.keys.advice import gap_limit
from daemon.keys.monero import MoneroKeys, parse
from daemon.keys.monero_address import (
    GROUP_ORDER,
    PRIMARY,
    SUBADDRESS,
    address_text,
    public_key,
    subaddress,
)
from daemon.keys.preview_page import FIRST_MINOR, NetworkForm, Preview

_INVOICES = 10_000
_LOOKAHEAD = gap_limit(invoices=_INVOICES, paid_share=0.1)
_NOTES = (
    (
        "compare with your wallet: its primary address must be the one above, or the two keys do"
        " not belong together. Invoices never get it; they get the subaddresses of account 0."
    ),
    (
        "give tallyd a wallet of its own: a subaddress of account 0 that you hand out yourself may"
        " be given to an invoice, too."
    ),
    (
        "tallyd sees payments to all its subaddresses; a wallet only up to its look-ahead (usually"
        f" 200) after the last one that was paid. For {_INVOICES:,} invoices that must be at least"
        f" {_LOOKAHEAD} if one in ten is paid (monero-wallet-cli: set subaddress-lookahead 50:N)."
    ),
    (
        "the private view key shows every payment to the wallet to whoever has it, and can spend"
        " none. tallyd stores it encrypted."
    ),
)
_MAYBE_PRIVATE = (
    "the spend key could be a private one as well: it is a number below the group's order, as only"
    " one public key in sixteen is. Make sure that it is the PUBLIC spend key."
)


def preview_monero(
    chain: str, text: str, *, network: str | None, count: int
) -> Preview | KeyRefused:
    """The wallet's primary address and its first `count` subaddresses; see `preview.preview`."""
    keys = parse(chain, text)
    if isinstance(keys, KeyRefused):
        return keys
    looks_private = int.from_bytes(keys.spend, "little") < GROUP_ORDER
    return Preview(
        coin="XMR",
        key=keys.description,
        script="Monero subaddress",
        path=f"subaddress 0/{FIRST_MINOR}, 0/{FIRST_MINOR + 1}, 0/{FIRST_MINOR + 2}, ...",
        forms=_forms(keys, network, count),
        warnings=(_MAYBE_PRIVATE,) if looks_private else (),
        notes=_NOTES,
    )


def _forms(keys: MoneroKeys, network: str | None, count: int) -> tuple[NetworkForm, ...]:
    """One entry per way of writing, the networks that share it together."""
    sharing: dict[bytes, list[str]] = {}
    for name, prefix in PRIMARY.items():
        if network in (None, name):
            sharing.setdefault(prefix, []).append(name)
    primary_view = public_key(keys.view)
    found = [
        (minor, subaddress(view=keys.view, spend=keys.spend, major=0, minor=minor))
        for minor in range(FIRST_MINOR, FIRST_MINOR + count)
    ]
    return tuple(
        NetworkForm(
            networks=tuple(names),
            addresses=(
                ("primary", address_text(prefix, spend=keys.spend, view=primary_view)),
                *(
                    (f"0/{minor}", address_text(SUBADDRESS[names[0]], spend=spend, view=view))
                    for minor, (spend, view) in found
                ),
            ),
        )
        for prefix, names in sharing.items()
    )
