"""What `tallyd keys preview COIN KEY` tells a person before any money depends on the key.

The person compares the first addresses with the wallet; the warnings name what usually goes wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from types import MappingProxyType

from actors.core.outcomes import KeyRefused
from daemon.keys import diagnosis
from daemon.keys.advice import notes_on, warnings_on
from daemon.keys.deriver import KEY_FIELD, read_key
from daemon.keys.extended import ExtendedKey
from daemon.keys.forms import AddressForm, form_for
from daemon.keys.monero_address import PRIMARY
from daemon.keys.monero_preview import preview_monero
from daemon.keys.preview_page import FIRST_MINOR, NetworkForm, Preview
from daemon.keys.ton_preview import preview_ton
from daemon.keys.ton_wallet import NETWORKS

COINS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "BTC": ("btc", "bitcoin"),
        "LTC": ("ltc", "bitcoin"),
        "ETH": ("eth", "evm"),
        "BNB": ("bnb", "evm"),
        "XMR": ("xmr", "monero"),
        "TON": ("ton", "ton"),
    }
)
"""Coin → (chain, family)."""
MAX_ADDRESSES = 1000
_FULL_NAMES = {
    "BITCOIN": "BTC",
    "LITECOIN": "LTC",
    "ETHEREUM": "ETH",
    "BSC": "BNB",
    "MONERO": "XMR",
    "TONCOIN": "TON",
}
_EVERY_NETWORK = "every network"


def preview(
    coin: str, key: str, *, network: str | None = None, count: int = 5
) -> Preview | KeyRefused:
    """The first `count` (1..1000) addresses of `key` for `coin`, with what to watch out for.

    `coin` is a name of COINS in any case; Monero's `key` is `VIEW:SPEND`. Without `network`, the
    forms of all networks are given. The refusal's `field` says which of the inputs it was: `coin`,
    `masterPubKey` (Monero: `privViewKey`, `pubSpendKey`), `network`.
    """
    name = coin.strip().upper()
    if name not in COINS:
        return KeyRefused(chain="", field="coin", reason=_unknown_coin(coin))
    chain, family = COINS[name]
    count = min(max(count, 1), MAX_ADDRESSES)
    if family == "monero":
        return _known_network(name, PRIMARY, network) or preview_monero(
            chain, key, network=network, count=count
        )
    if family == "ton":
        return _known_network(name, NETWORKS, network) or preview_ton(
            chain, key, network=network, count=count
        )
    form = form_for(chain=chain, family=family)
    assert form is not None
    parsed = read_key(key)
    if isinstance(parsed, str):
        return KeyRefused(chain=chain, field=KEY_FIELD, reason=parsed)
    if form.prefixes and (refused := _known_network(name, form.prefixes, network)):
        return refused
    return Preview(
        coin=name,
        key=parsed.description,
        script=form.script,
        path=f"<key>/0/{FIRST_MINOR}, /0/{FIRST_MINOR + 1}, /0/{FIRST_MINOR + 2}, ...",
        forms=_network_forms(parsed, form, network, count),
        warnings=warnings_on(parsed, coin=name, form=form, network=network),
        notes=notes_on(parsed, coin=name, form=form),
    )


def _known_network(coin: str, known: Collection[str], network: str | None) -> KeyRefused | None:
    if network is None or network in known:
        return None
    near = difflib.get_close_matches(network.lower(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    reason = f"{coin} has no such network; known are {', '.join(known)}{hint}"
    return KeyRefused(chain=COINS[coin][0], field="network", reason=reason)


def _network_forms(
    key: ExtendedKey, form: AddressForm, network: str | None, count: int
) -> tuple[NetworkForm, ...]:
    """One entry per way of writing, the networks that share it together."""
    sharing: dict[str, list[str]] = {}
    for name, prefix in (form.prefixes or {_EVERY_NETWORK: ""}).items():
        if network in (None, name) or not form.prefixes:
            sharing.setdefault(prefix, []).append(name)
    external = key.node().child(0)
    minors = range(FIRST_MINOR, FIRST_MINOR + count)
    children = [(f"0/{minor}", external.child_key(minor)) for minor in minors]
    return tuple(
        NetworkForm(
            networks=tuple(names),
            addresses=tuple((path, form.derive(key, names[0]).address) for path, key in children),
        )
        for names in sharing.values()
    )


def _unknown_coin(coin: str) -> str:
    names = ", ".join(COINS)
    word = coin.strip().upper()
    # Whoever swaps the two arguments has put a key here, which must not be repeated.
    secret = diagnosis.secret_in(coin)
    if secret:
        return diagnosis.explain(coin)
    if len(word) > 16 or not word.isalnum():
        return f"this is no coin's name; the coin comes first ({names}), then the key"
    near = _FULL_NAMES.get(word) or next(iter(difflib.get_close_matches(word, COINS, n=1)), None)
    hint = f"; did you mean {near}?" if near else ""
    return f"{word} is not a coin that has such keys; known are {names}{hint}"
