"""What `tallyd keys preview COIN KEY` tells a person before any money depends on the key.

The person compares the first addresses with the wallet; the warnings name what usually goes wrong.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from actors.core.outcomes import KeyRefused
from daemon.keys import diagnosis
from daemon.keys.advice import notes_on, warnings_on
from daemon.keys.deriver import KEY_FIELD, read_key
from daemon.keys.extended import ExtendedKey
from daemon.keys.forms import AddressForm, form_for

COINS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "BTC": ("btc", "bitcoin"),
        "LTC": ("ltc", "bitcoin"),
        "ETH": ("eth", "evm"),
        "BNB": ("bnb", "evm"),
    }
)
"""Coin → (chain, family)."""
MAX_ADDRESSES = 1000
_FULL_NAMES = {"BITCOIN": "BTC", "LITECOIN": "LTC", "ETHEREUM": "ETH", "BSC": "BNB"}
_EVERY_NETWORK = "every network"
# The first address tallyd gives out is <key>/0/1 (GoiPay increments the pair before it derives).
_FIRST_MINOR = 1


@dataclass(frozen=True, slots=True)
class NetworkForm:
    """Addresses as they are written on some networks."""

    networks: tuple[str, ...]
    """As the node names them; `every network` where the text is the same on all."""
    addresses: tuple[tuple[str, str], ...]
    """(path below the key, address), in the order in which invoices get them."""


@dataclass(frozen=True, slots=True)
class Preview:
    coin: str
    key: str
    """For people, without the key: kind, depth, fingerprint."""
    script: str
    path: str
    forms: tuple[NetworkForm, ...]
    warnings: tuple[str, ...]
    """Why money may not show up in the wallet."""
    notes: tuple[str, ...]

    def render(self) -> str:
        """Plain text for a terminal, lines of at most 100 characters, no trailing newline."""
        lines = [
            f"Coin       {self.coin}",
            f"Key        {self.key}",
            f"Addresses  {self.script}",
            f"Path       {self.path}",
        ]
        for form in self.forms:
            lines += ["", f"On {', '.join(form.networks)}:"]
            lines += [f"  {path:<8} {address}" for path, address in form.addresses]
        for heading, texts in (("WARNING", self.warnings), ("Note", self.notes)):
            for text in texts:
                lines += ["", *textwrap.wrap(f"{heading}: {text}", 100, subsequent_indent="  ")]
        return "\n".join(lines)

    def json(self) -> str:
        """The same as a JSON object; an address is `{"path": "0/1", "address": ...}`."""
        data = asdict(self)
        for form in data["forms"]:
            form["addresses"] = [{"path": p, "address": a} for p, a in form["addresses"]]
        return json.dumps(data, indent=2, ensure_ascii=False)


def preview(
    coin: str, key: str, *, network: str | None = None, count: int = 5
) -> Preview | KeyRefused:
    """The first `count` (1..1000) addresses of `key` for `coin`, with what to watch out for.

    `coin` is a name of COINS in any case. Without `network`, the forms of all networks are given.
    The refusal's `field` says which of the three inputs it was: `coin`, `masterPubKey`, `network`.
    """
    name = coin.strip().upper()
    if name not in COINS:
        return KeyRefused(chain="", field="coin", reason=_unknown_coin(coin))
    chain, family = COINS[name]
    form = form_for(chain=chain, family=family)
    assert form is not None
    parsed = read_key(key)
    if isinstance(parsed, str):
        return KeyRefused(chain=chain, field=KEY_FIELD, reason=parsed)
    if network is not None and form.prefixes and network not in form.prefixes:
        near = difflib.get_close_matches(network.lower(), form.prefixes, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        reason = f"{name} has no such network; known are {', '.join(form.prefixes)}{hint}"
        return KeyRefused(chain=chain, field="network", reason=reason)
    return Preview(
        coin=name,
        key=parsed.description,
        script=form.script,
        path=f"<key>/0/{_FIRST_MINOR}, /0/{_FIRST_MINOR + 1}, /0/{_FIRST_MINOR + 2}, ...",
        forms=_network_forms(parsed, form, network, min(max(count, 1), MAX_ADDRESSES)),
        warnings=warnings_on(parsed, coin=name, form=form, network=network),
        notes=notes_on(parsed, coin=name, form=form),
    )


def _network_forms(
    key: ExtendedKey, form: AddressForm, network: str | None, count: int
) -> tuple[NetworkForm, ...]:
    """One entry per way of writing, the networks that share it together."""
    sharing: dict[str, list[str]] = {}
    for name, prefix in (form.prefixes or {_EVERY_NETWORK: ""}).items():
        if network in (None, name) or not form.prefixes:
            sharing.setdefault(prefix, []).append(name)
    external = key.node().child(0)
    minors = range(_FIRST_MINOR, _FIRST_MINOR + count)
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
