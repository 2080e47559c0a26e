"""TON public keys as people give them, and what is said to those who give something else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from actors.core.outcomes import KeyRefused
from daemon.keys.ton import TonKey, parse
from tests.daemon.keys import monero_samples, samples
from tests.daemon.keys import ton_samples as ton
from tests.daemon.keys.ton_samples import KEY

RAW = bytes.fromhex(KEY)
STANDARD, URL_SAFE = (
    encode(RAW).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)
)
SECRET = ton.SEED + RAW
SEED_WORDS = " ".join(["abandon"] * 23 + ["about"])
ADDRESS = ton.friendly_of("v4r2", "mainnet", 1)


def refused(text):
    found = parse("ton", text)
    assert isinstance(found, KeyRefused), found
    assert (found.chain, found.field) == ("ton", "masterPubKey")
    return found.reason


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.upper(),
        f"0x{KEY}",
        f"0X{KEY}",
        f" {KEY}\n",
        STANDARD,
        URL_SAFE,
        STANDARD.rstrip("="),
        URL_SAFE.rstrip("="),
    ],
)
def test_every_form_is_one_key(text):
    key = parse("ton", text)
    assert isinstance(key, TonKey)
    assert key.canonical == KEY
    assert key.description == "TON public key, fingerprint 141095f1"
    assert KEY[:8] not in f"{key!r}"


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_a_wallet_can_have_is_taken_in_every_form(seed):
    point = bytes(SigningKey(seed).verify_key)
    forms = (
        point.hex(),
        *(e(point).decode() for e in (base64.b64encode, base64.urlsafe_b64encode)),
    )
    assert [parse("ton", form) for form in forms] == [TonKey(point)] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("x" * 5000, "it has 5000 characters"),
        ("hello", "not recognised"),
        (KEY[:-2], "it has 62 hexadecimal digits of 64"),
        (KEY[:-1], "it has 63 hexadecimal digits of 64; explorers leave out zeros"),
        (KEY + "00", "it has 66 hexadecimal digits of 64; expected"),
        (f"0x{KEY[2:]}", "put them back"),
        (base64.b64encode(RAW[:31]).decode(), "it has 31 bytes of 32"),
        (STANDARD[:-2] + "9=", "not recognised"),
        (SECRET.hex(), "64 bytes, as a wallet's secret key"),
        (base64.b64encode(SECRET).decode(), "64 bytes, as a wallet's secret key"),
        (SEED_WORDS, "a list of 24 words"),
        (ADDRESS, "this is an address"),
        (ton.row_of("v4r2", "mainnet", 1)["raw"], "this is an address"),
        (f"ton://transfer/{ADDRESS}?amount=1", "this is an address"),
        (f"https://tonviewer.com/{ADDRESS}", "this is an address"),
        (samples.ZPUB, "an extended public key"),
        (samples.ZPRV, "an extended private key"),
        (samples.WIF, "a private key in wallet import format"),
    ],
)
def test_refusals_say_what_it_is(text, words):
    reason = refused(text)
    assert words in reason
    assert len(text) < 12 or text[4:16] not in reason


@pytest.mark.parametrize("text", [SECRET.hex(), SEED_WORDS, samples.ZPRV, samples.WIF])
def test_secrets_are_called_exposed(text):
    assert "move the funds to a new wallet. It was not stored" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        *monero_samples.SMALL_ORDER,
        "ff" * 32,
        # A point of the group with one of small order added: nobody has a private key to it.
        monero_samples.compress(
            monero_samples.add(
                monero_samples.decompress(RAW),
                monero_samples.decompress(bytes.fromhex(monero_samples.SMALL_ORDER[4])),
            )
        ).hex(),
    ],
)
def test_what_no_wallet_can_have_made(text):
    reason = refused(text)
    assert "no public key" in reason
    assert "Should it be the private key, it is exposed now" in reason


def test_most_private_keys_are_noticed():
    """32 random bytes are a point in one case of two, and of the group in one of eight of those."""
    taken = sum(
        isinstance(parse("ton", (number.to_bytes(4, "big") * 8).hex()), TonKey)
        for number in range(400)
    )
    assert taken < 60


@given(st.text(max_size=120) | st.binary(max_size=80).map(lambda b: base64.b64encode(b).decode()))
def test_any_text_is_a_key_or_refused_in_words(text):
    found = parse("ton", text)
    assert isinstance(found, TonKey | KeyRefused)
    if isinstance(found, KeyRefused):
        assert found.reason
