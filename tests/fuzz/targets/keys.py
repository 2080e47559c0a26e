"""What people give as keys: a key, or a refusal that repeats nothing of it."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from actors.core.outcomes import KeyRefused
from actors.ports import PublicKey
from daemon.keys import Keyring, Vault
from daemon.keys.extended import base58check_payload
from tests.daemon.keys import monero_samples, reference, samples, ton_samples
from tests.fuzz.engine import Target, plain
from tests.fuzz.mutation import mutated, mutated_text
from tests.helpers.house import BTC_KEY, CATALOGUE, EVM_KEY, LTC_KEY, TON_KEY, VAULT_KEY


def texts_of(module: object) -> list[str]:
    """Every text that a module of samples holds."""
    held = [
        one
        for value in vars(module).values()
        for one in (value.values() if isinstance(value, dict) else [value])
    ]
    return [
        one for one in held if isinstance(one, str) and 20 < len(one) < 2000 and "\n" not in one
    ]


SEEDS = sorted(
    {
        BTC_KEY, LTC_KEY, EVM_KEY, TON_KEY, samples.MNEMONIC, samples.WIF, samples.ZPRV,
        f"wpkh([d34db33f/84h/0h/0h]{samples.ZPUB}/0/*)#checksum",
        *texts_of(samples), *texts_of(monero_samples), *texts_of(ton_samples),
    }
)  # fmt: skip
CHAINS = ("btc", "ltc", "eth", "bnb", "xmr", "ton")
MAY_REPEAT = re.compile(r"[0-9a-zA-Z]{16,}")


def drawn(dice: Random) -> bytes:
    """A chain's number, and a text; sometimes a damaged payload with a checksum that is right."""
    seed = dice.choice(SEEDS)
    if dice.random() < 0.2 and seed[1:4] in ("pub", "prv"):
        payload = base58check_payload(seed) or b""
        text = reference.base58check_encode(mutated(dice, payload)[:200])
    else:
        text = mutated_text(dice, seed, others=SEEDS)
    return bytes([dice.randrange(len(CHAINS))]) + text.encode("utf-8", "surrogatepass")


@cache
def keyring() -> Keyring:
    return Keyring(Vault(VAULT_KEY, warn=lambda *_, **__: None))


def check(data: bytes) -> None:
    chain = CATALOGUE.chains[CHAINS[data[0] % len(CHAINS)]]
    text = data[1:].decode("utf-8", "surrogatepass")
    found = keyring().parse_key(chain, text)
    if isinstance(found, KeyRefused):
        assert 0 < len(found.reason) < 3000
        said = found.reason
    else:
        assert isinstance(found, PublicKey)
        assert found.canonical
        said = found.description + repr(found)
        said = said.replace(found.canonical, "")
    secrets = [one for one in MAY_REPEAT.findall(text) if len(set(one)) > 8]
    assert not [one for one in secrets if one in said], "it repeats what it was given"


TARGETS = [Target("keys", drawn, plain(check), cases=1500)]
