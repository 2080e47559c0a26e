"""What is refused, in which words; and that the words repeat nothing of what was given."""

import json
import re

import pytest
from bip_utils import (
    Bip32KeyError,
    Bip32KeyNetVersions,
    Bip32Slip10Secp256k1,
    Bip44Coins,
    Bip44ConfGetter,
    Bip49Coins,
    Bip49ConfGetter,
    Bip84Coins,
    Bip84ConfGetter,
    EllipticCurveTypes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.outcomes import KeyRefused
from daemon.keys import Deriver, extended
from daemon.keys.diagnosis import MAX_CHARS
from daemon.keys.versions import PRIVATE, PUBLIC, VERSIONS
from tests.daemon.keys import reference, samples
from tests.daemon.keys.samples import BTC, MNEMONIC, WIF, XPUB, YPUB, ZPRV, ZPUB


def reason(text):
    refused = Deriver().parse_key(BTC, text)
    assert isinstance(refused, KeyRefused), "accepted"
    return refused.reason


def leaks(text, said):
    """Does `said` repeat any 8 characters of `text`?"""
    return any(text[i : i + 8] in said for i in range(len(text) - 7))


PRIVATE_WORDS = "must never leave your wallet: give the extended public key"
BIP38 = "6PRVWUbkzzsbcVac2qwfssoUJAN1Xhrg6bNk8J7Nzm5H7kxEbn2Nh2ZoGg"
LITECOIN_WIF = reference.base58check_encode(b"\xb0" + b"\x11" * 32 + b"\x01")
UNCOMPRESSED_WIF = reference.base58check_encode(b"\x80" + b"\x11" * 32)
FOREIGN_WIF = reference.base58check_encode(b"\xcc" + b"\x11" * 32)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (ZPRV, "an extended private key (zprv)"),
        (ZPRV[:60], "an extended private key (zprv)"),
        (ZPRV[:-1] + "z", "an extended private key (zprv)"),
        (f"wpkh([d34db33f/84h/0h/0h]{ZPRV}/0/*)#checksum", "an extended private key (zprv)"),
        (ZPRV[:9] + "0" + ZPRV[10:], "an extended private key (zprv)"),
        (f"my key: {ZPRV}", "an extended private key (zprv)"),
        (json.dumps({"keystore": {"xprv": ZPRV, "xpub": ZPUB}}), "an extended private key (zprv)"),
        (WIF, "(WIF)"),
        (WIF[:-1] + "z", "(WIF)"),
        (LITECOIN_WIF, "(WIF)"),
        (UNCOMPRESSED_WIF, "(WIF)"),
        (FOREIGN_WIF, "(WIF)"),
        (f"p2wpkh:{WIF}", "(WIF)"),
        (BIP38, "(BIP-38)"),
        ("11" * 32, "raw private key"),
        ("0x" + "Ab" * 32, "raw private key"),
        (" ".join(["ab" * 8] * 4), "raw private key"),
        ("cd" * 64, "a wallet's seed"),
        (MNEMONIC, "12 words"),
        (MNEMONIC.upper().replace(" ", ", "), "12 words"),
        (" ".join(f"{i}. {w}" for i, w in enumerate(MNEMONIC.split(), 1)), "12 words"),
        ("\n".join(MNEMONIC.split()[:9]), "9 words"),
        (" ".join(["abandonn"] * 24), "24 words"),
        ("\u3000".join(["あいこくしん"] * 11 + ["あおぞら"]), "12 words"),
    ],
)
def test_secrets(text, kind):
    said = reason(text)
    assert kind in said
    assert PRIVATE_WORDS in said
    assert "exposed" in said
    assert not leaks(text, said)
    assert not any(word in said for word in ("abandon", "あいこくしん"))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.private_prefix)
def test_every_private_version_is_refused(version):
    text = reference.base58check_encode(version.private + reference.base58_decode(ZPRV)[4:])
    assert text.startswith(version.private_prefix)
    assert PRIVATE_WORDS in reason(text)


def test_private_bytes_are_refused_under_any_version():
    payload = reference.base58_decode(ZPRV)[4:]
    for version in (b"\0\0\0\0", b"\x12\x34\x56\x78", VERSIONS[0].public):
        assert PRIVATE_WORDS in reason(reference.base58check_encode(version + payload))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("hello", "not recognised; expected is an extended public key"),
        ("x" * (MAX_CHARS + 1), f"{MAX_CHARS + 1} characters"),
        (ZPUB + " " * MAX_CHARS, f"{MAX_CHARS + 111} characters"),
        (ZPUB[:-3], "108 characters of 111: a part is missing"),
        (ZPUB[:20], "20 characters of 111: a part is missing"),
        (ZPUB + "1", "112 characters instead of 111"),
        (ZPUB + ZPUB, "222 characters instead of 111"),
        (ZPUB[:50] + "\n" + ZPUB[50:], "white space at character 51"),
        (ZPUB[:50] + "0" + ZPUB[51:], "character 51 can not occur"),
        (ZPUB[:50] + "é" + ZPUB[51:], "character 51 can not occur"),
        (ZPUB[:50] + ("a" if ZPUB[50] != "a" else "b") + ZPUB[51:], "checksum does not match"),
        (f"wpkh([d34db33f/84h/0h/0h]{XPUB}/<0;1>/*)#8s8l", "the 111 characters from xpub on"),
        (f"[d34db33f/84'/0'/0']{ZPUB}", "the 111 characters from zpub on"),
        (f"{ZPUB}/0/*", "the 111 characters from zpub on"),
        (f"wsh(sortedmulti(2,{XPUB}/0/*,{YPUB}/0/*))", "several keys"),
        (f"wsh(multi(1,{XPUB}/0/*))", "several keys"),
        (json.dumps({"keystore": {"xprv": None, "xpub": ZPUB}}), "a wallet file"),
        ("0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c", "single public"),
        ("0x04" + "11" * 64, "a single public key"),
        ("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", "an address"),
        ("BC1QCR8TE4KR609GCAWUTMRZA0J4XV80JY8Z306FYU", "an address"),
        ("bitcoin:bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu?amount=1", "an address"),
        ("ltc1quc3y9flfnhd9zeg5dm5h4ckzz040ykk495rstl", "an address"),
        ("1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA", "an address"),
        ("37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf", "an address"),
        ("0x52bDE05866773a211aB01BbaEa9C474B9f24754D", "an address"),
    ],
)
def test_other_mistakes(text, words):
    said = reason(text)
    assert words in said
    assert "exposed" not in said
    assert not leaks(text, said)


# BIP-32, test vector 5 (public ones; the private ones are in the list below).
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6N8ZMMXctdiCjxTNq964yKkwr"
                "kBJJwpzZS4HS2fxvyYUA4q2Xe4"
            ),
            "no point of the curve",
        ),
        (
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Q5JXayek4PRsn35jii4veMim"
                "ro1xefsM58PgBMrvdYre8QyULY"
            ),
            "no point of the curve",
        ),
        (
            (
                "xpub661no6RGEX3uJkY4bNnPcw4URcQTrSibUZ4NqJEw5eBkv7ovTwgiT91XX27VbEXGENhYRCf7hyEbWrR3F"
                "ewATdCEebj6znwMfQkhRYHRLpJ"
            ),
            "master key (depth 0) but names a parent",
        ),
        (
            (
                "xpub661MyMwAuDcm6CRQ5N4qiHKrJ39Xe1R1NyfouMKTTWcguwVcfrZJaNvhpebzGerh7gucBvzEQWRugZDuD"
                "XjNDRmXzSZe4c7mnTK97pTvGS8"
            ),
            "master key (depth 0) but names a parent",
        ),
        (
            (
                "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHPmHJiEDXkTiJTVV9rHEBUem2"
                "mwVbbNfvT2MTcAqj3nesx8uBf9"
            ),
            "version bytes 0x01010101 are not known",
        ),
        (
            (
                "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHGMQzT7ayAmfo4z3gY5KfbrZW"
                "Z6St24UVf2Qgo6oujFktLHdHY4"
            ),
            PRIVATE_WORDS,
        ),
        (
            (
                "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFAzHGBP2UuGCqWLTAPLcMtD5S"
                "DKr24z3aiUvKr9bJpdrcLg1y3G"
            ),
            PRIVATE_WORDS,
        ),
        (
            (
                "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejM"
                "RNNU3TGtRBeJgk33yuGBxrMPHL"
            ),
            PRIVATE_WORDS,
        ),
    ],
)
def test_invalid_keys_of_bip32(text, words):
    assert words in reason(text)


@settings(max_examples=300, deadline=None)
@given(
    key=st.sampled_from([ZPUB, XPUB, samples.GOIPAY_BTC]),
    position=st.integers(0, 110),
    character=st.sampled_from(reference.BASE58 + "0OIl /é"),
)
def test_one_wrong_character_is_refused(key, position, character):
    mutated = key[:position] + character + key[position + 1 :]
    if mutated != key:
        # An inner change only: white space at the ends belongs to nobody.
        assert mutated.strip() == mutated or len(mutated.strip()) < 111
        assert not leaks(mutated, reason(mutated))


def test_every_single_character_of_a_key_matters():
    for position, right in enumerate(ZPUB):
        wrong = "2" if right != "2" else "3"
        assert "checksum does not match" in reason(ZPUB[:position] + wrong + ZPUB[position + 1 :])


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.text(alphabet=reference.BASE58, max_size=240),
        st.text(alphabet="()[]/*<>;#xpubrv0123456789abcdef \n", max_size=200),
        st.binary(max_size=90).map(reference.base58check_encode),
    )
)
def test_no_text_makes_the_parser_fail_or_repeat_it(text):
    said = reason(text)
    assert said
    fixed = "expected is an extended public key: 111 characters that begin with xpub, zpub"
    assert fixed in said or not leaks(re.sub(r"\s+", " ", text), said)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=74, max_size=74), st.sampled_from(sorted(PUBLIC)))
def test_what_is_accepted_is_what_bip_utils_accepts(payload, version):
    """With the key byte forced to a public one, so that both outcomes are drawn."""
    payload = payload[:41] + bytes([2 + payload[41] % 2]) + payload[42:]
    text = reference.base58check_encode(version + payload)
    row = PUBLIC[version]
    try:
        Bip32Slip10Secp256k1.FromExtendedKey(text, Bip32KeyNetVersions(row.public, row.private))
        valid = True
    except Bip32KeyError:
        valid = False
    assert (extended.parse(text) is not None) is valid


def test_every_version_that_bip_utils_knows_for_this_curve_is_known():
    getters = (
        (Bip44Coins, Bip44ConfGetter),
        (Bip49Coins, Bip49ConfGetter),
        (Bip84Coins, Bip84ConfGetter),
    )
    seen = 0
    for coins, getter in getters:
        for coin in coins:
            conf = getter.GetConfig(coin)
            if conf.Bip32Class().CurveType() is EllipticCurveTypes.SECP256K1:
                versions = conf.KeyNetVersions()
                assert versions.Public() in PUBLIC
                assert versions.Private() in PRIVATE
                seen += 1
    assert seen > 50


def test_versions_are_told_apart():
    assert len(PUBLIC) == len(PRIVATE) == len(VERSIONS)
    assert not PUBLIC.keys() & PRIVATE.keys()
    prefixes = [name for row in VERSIONS for name in (row.prefix, row.private_prefix)]
    assert len(set(prefixes)) == 2 * len(VERSIONS)
