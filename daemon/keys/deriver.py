"""From a user's extended public key to the addresses of invoices."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from actors.core.assets import Chain
from actors.core.outcomes import KeyRefused
from actors.ports import Account, Derived, PublicKey
from daemon.keys import diagnosis, extended
from daemon.keys.forms import AddressForm, form_for
from daemon.keys.node import ChainNode

KEY_FIELD = "masterPubKey"
_CACHED_NODES = 4096


@dataclass(frozen=True, slots=True)
class DeriverStatistics:
    cached: int
    """Nodes key/major held ready, ~0.6 KB each."""
    capacity: int
    hits: int
    misses: int


class Deriver:
    """The AddressDeriver of the chains whose keys are BIP-32 on secp256k1 (Bitcoin family, EVM).

    Derives at <key>/major/minor. The last `capacity` nodes key/major are kept, so that an address
    costs one child derivation. For one thread.
    """

    def __init__(self, *, capacity: int = _CACHED_NODES) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._nodes: OrderedDict[tuple[str, int], ChainNode] = OrderedDict()
        self._hits = 0
        self._misses = 0

    def supports(self, chain: Chain) -> bool:
        """Can keys be parsed and addresses made for this chain?"""
        return form_for(family=chain.family, chain=chain.id) is not None

    def parse_key(self, chain: Chain, text: str) -> PublicKey | KeyRefused:
        """Any extended public key, in any version and at any depth (see `AddressDeriver`).

        White space around the text is ignored. `supports(chain)` is the caller's to check.
        """
        _form(chain)
        key = read_key(text)
        if isinstance(key, str):
            return KeyRefused(chain=chain.id, field=KEY_FIELD, reason=key)
        return PublicKey(chain=chain.id, canonical=key.canonical, description=key.description)

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        """The address at <key>/major/minor (see `AddressDeriver`).

        Major and minor are 0..2**31-1. Raises PersistentError when no address form is known for
        `network`, ValueError for other arguments that break this.
        """
        child = self._node(account.key, major).child_key(minor)
        return _form(chain).derive(child, network)

    def statistics(self) -> DeriverStatistics:
        return DeriverStatistics(
            cached=len(self._nodes), capacity=self._capacity, hits=self._hits, misses=self._misses
        )

    def _node(self, key: str, major: int) -> ChainNode:
        at = (key, major)
        node = self._nodes.get(at)
        if node is not None:
            self._hits += 1
            self._nodes.move_to_end(at)
            return node
        self._misses += 1
        parsed = extended.parse(key)
        if parsed is None:
            # The key itself must not get into a traceback.
            raise ValueError("a stored key is not an extended public key: the store is damaged")
        node = self._nodes[at] = parsed.node().child(major)
        if len(self._nodes) > self._capacity:
            self._nodes.popitem(last=False)
        return node


def read_key(text: str) -> extended.ExtendedKey | str:
    """The key that a person gave, or in words why it is none; the words repeat nothing of it."""
    if len(text) <= diagnosis.MAX_CHARS:
        text = text.strip()
    return extended.parse(text) or diagnosis.explain(text)


def _form(chain: Chain) -> AddressForm:
    form = form_for(family=chain.family, chain=chain.id)
    assert form is not None, f"no address form for chain {chain.id}: ask supports() first"
    return form
