"""What a person gives as a Monero wallet's keys: taken, or refused in words that repeat nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.outcomes import KeyRefused
from daemon.keys.monero import MoneroKeys, parse, spend_key_of
from daemon.keys.monero_address import GROUP_ORDER, is_scalar, public_key
from tests.daemon.keys import monero_samples as samples
from tests.daemon.keys.monero_samples import PRIMARY, SPEND, SPEND_PRIVATE, VIEW, VIEW_PUBLIC

ORDER = GROUP_ORDER.to_bytes(32, "little").hex()
OFF_CURVE = "02" + "00" * 31
SEED = " ".join(["velvet", "lymph", "giddy", "number", "token"] * 5)


def leaks(text, said):
    """Does `said` repeat any 8 characters of a key in `text`?"""
    return any(text[i : i + 8] in said for i in range(len(text) - 7) if " " not in text[i : i + 8])


def refused(text):
    found = parse("xmr", text)
    assert isinstance(found, KeyRefused), "accepted"
    assert found.chain == "xmr"
    assert not leaks(text, found.reason)
    return found


@pytest.mark.parametrize(
    "text", [f"{VIEW}:{SPEND}", f"{VIEW.upper()}:{SPEND.upper()}", f"\n {VIEW} : {SPEND}\t"]
)
def test_good_keys(text):
    keys = parse("xmr", text)
    assert isinstance(keys, MoneroKeys)
    assert (keys.view.hex(), keys.spend.hex()) == (VIEW, SPEND)
    assert keys.canonical == SPEND + VIEW_PUBLIC
    assert spend_key_of(keys.canonical) == keys.spend
    assert keys.description.startswith("Monero view-only wallet, fingerprint ")
    for shown in (repr(keys), keys.description):
        assert not leaks(f"{VIEW}{SPEND}", shown)
        assert repr(keys.view)[2:20] not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty; expected are the private view key and the public spend key"),
        (":", "one of the keys is missing"),
        (f":{SPEND}", "one of the keys is missing"),
        (VIEW, "this is one key only"),
        (VIEW + SPEND, "no colon between the two keys"),
        (f"{VIEW[:-1]}:{SPEND}", "the private view key must be 64 hexadecimal digits"),
        (f"0x{VIEW}:{SPEND}", "the private view key must be 64 hexadecimal digits"),
        (f"{VIEW[:10]} {VIEW[10:]}:{SPEND}", "must be 64 hexadecimal digits"),
        (f"{'00' * 32}:{SPEND}", "is not a canonical scalar"),
        (f"{ORDER}:{SPEND}", "is not a canonical scalar (1 to the group order)"),
        (f"{'ff' * 32}:bad", "is not a canonical scalar"),
        (f"{SPEND}:{VIEW}", "the wrong way round: the private view key comes first"),
        (PRIMARY, "this is an address"),
        (f"monero:{PRIMARY}?tx_amount=1", "this is an address"),
        (f"{PRIMARY}:{SPEND}", "this is an address"),
        (SEED, "a list of 25 words"),
        (f"{SEED}:{SPEND}", "a list of 25 words"),
        ("hello", "not recognised; expected are"),
        ("x" * 5000, "it has 5000 characters"),
    ],
)
def test_wrong_view_keys(text, words):
    found = refused(text)
    assert found.field == "privViewKey"
    assert words in found.reason
    assert ("exposed" in found.reason) is ("words" in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{VIEW}:", "one of the keys is missing"),
        (f"{VIEW}:{SPEND[:-1]}", "the public spend key must be 64 hexadecimal digits"),
        (f"{VIEW}:{SPEND}:{SPEND}", "the public spend key must be 64 hexadecimal digits"),
        (f"{VIEW}:{OFF_CURVE}", "is not a point on the curve, or outside its prime-order group"),
        (f"{VIEW}:{samples.SMALL_ORDER[4]}", "outside its prime-order group"),
        (f"{VIEW}:{samples.SMALL_ORDER[0]}", "outside its prime-order group"),
        (f"{VIEW}:{VIEW_PUBLIC}", "the public key of the first one"),
        (
            f"{SPEND_PRIVATE}:{SPEND}",
            "Should the first one be the private spend key, it is exposed",
        ),
        (f"{VIEW}:{SPEND_PRIVATE}", "this is the wallet's private spend key"),
        (f"{VIEW}:{PRIMARY}", "this is an address"),
        (f"{VIEW}:{SEED}", "a list of 25 words"),
    ],
)
def test_wrong_spend_keys(text, words):
    found = refused(text)
    assert found.field == "pubSpendKey"
    assert words in found.reason


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.text(alphabet="0123456789abcdefABCDEF:", max_size=140),
        st.builds("{}:{}".format, st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.just(SPEND)),
        st.builds("{}:{}".format, st.just(VIEW), st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
    )
)
def test_no_text_makes_the_parser_fail_or_repeat_it(text):
    found = parse("xmr", text)
    if isinstance(found, MoneroKeys):
        assert is_scalar(found.view)
        assert public_key(found.view).hex() in found.canonical
    else:
        assert not leaks(text.replace("expected", ""), found.reason)
