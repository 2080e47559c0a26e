"""Which mistake was made, when a text is not an extended public key.

The text may be a secret that opens a wallet, so no answer repeats any part of it but a name from
our own tables, and a secret is recognised before anything else, mistyped or cut off as it may be.
"""

import re
import unicodedata

from daemon.keys.extended import PAYLOAD_BYTES, TEXT_CHARS, base58check_payload, is_point
from daemon.keys.versions import PRIVATE, PUBLIC, VERSIONS

EXPECTED = (
    "expected is an extended public key: 111 characters that begin with xpub, zpub, tpub, vpub, "
    "Ltub or the like"
)
MAX_CHARS = 4096
"""Longer texts are not looked into."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TOKEN = re.compile(rf"[{_ALPHABET}]{{4,{MAX_CHARS}}}")
_PUBLIC_PREFIXES = tuple(version.prefix for version in VERSIONS)
_PRIVATE_PREFIXES = tuple(version.private_prefix for version in VERSIONS)
# First letters of WIF on Bitcoin and Litecoin, main and test networks; BIP-38 begins with 6P.
_WIF = re.compile(r"[5KL9cT6][1-9A-HJ-NP-Za-km-z]{50,51}")
_ENCRYPTED_WIF = re.compile(r"6P[1-9A-HJ-NP-Za-km-z]{56}")
_ADDRESS = re.compile(
    r"(bc|tb|bcrt|ltc|tltc|rltc|ltcmweb|tmweb)1[02-9ac-hj-np-z]{6,}", re.IGNORECASE
)
_URI = re.compile(r"(bitcoin|litecoin|ethereum):", re.IGNORECASE)
_KEY_PREFIX = re.compile("|".join(_PUBLIC_PREFIXES))
_SECRET_CHARS = 16
"""Shorter, `xprv` is a word of a wallet file rather than a key cut off."""
# No word list is consulted: a seed phrase with a mistyped word is a secret all the same.
_SEED_WORDS = 9
_SEED_WORD_CHARS = 12


def explain(text: str) -> str:
    """Why `text`, which `extended.parse` did not take, can not be used, and what to do."""
    if not text:
        return f"it is empty; {EXPECTED}"
    if len(text) > MAX_CHARS:
        return f"it has {len(text)} characters; {EXPECTED}"
    secret = secret_in(text)
    if secret:
        return (
            f"this is {secret}. It can spend the money, so it must never leave your wallet: "
            "give the extended public key (xpub, zpub, ...) instead, and consider what you sent "
            "exposed: move the funds to a new wallet. It was not stored."
        )
    return (
        _descriptor(text) or _other_thing(text) or _damaged(text) or f"not recognised; {EXPECTED}"
    )


def secret_in(text: str) -> str | None:
    """What kind of secret the text is, holds, or was meant to be; None when it looks like none."""
    text = text[:MAX_CHARS]
    hex_digits = re.sub(r"^0[xX]|\s", "", text)
    if re.fullmatch(r"[0-9a-fA-F]{64}", hex_digits):
        return "32 bytes in hexadecimal, which is what a raw private key looks like"
    if re.fullmatch(r"[0-9a-fA-F]{128}", hex_digits):
        return "64 bytes in hexadecimal, which is what a wallet's seed looks like"
    words = seed_words(text)
    if words:
        return f"a list of {words} words, which is what a wallet's seed phrase looks like"
    for token in [text.lstrip(), *_TOKEN.findall(text)]:
        kind = _secret_token(token)
        if kind:
            return kind
    return None


def seed_words(text: str) -> int:
    """How many words the seed phrase has that the text looks like; 0 when it looks like none."""
    words = _longest_run_of_words(text)
    return words if words >= _SEED_WORDS else 0


def _longest_run_of_words(text: str) -> int:
    """How many short words follow each other; numbers between them count as nothing."""
    longest = run = 0
    for word in re.split(r"[\W_]+", unicodedata.normalize("NFKC", text)):
        if not word or word.isdecimal():
            continue
        run = run + 1 if word.isalpha() and len(word) <= _SEED_WORD_CHARS else 0
        longest = max(longest, run)
    return longest


def _secret_token(token: str) -> str | None:
    if token.startswith(_PRIVATE_PREFIXES) and len(token) >= _SECRET_CHARS:
        return f"an extended private key ({token[:4]})"
    if _WIF.fullmatch(token):
        return "a private key in wallet import format (WIF)"
    if _ENCRYPTED_WIF.fullmatch(token):
        return "an encrypted private key (BIP-38)"
    payload = base58check_payload(token) if len(token) <= 2 * TEXT_CHARS else None
    if payload is not None and len(payload) == PAYLOAD_BYTES:
        # The byte before 32 secret bytes is zero, before 32 public ones 2 or 3, in any version.
        if payload[:4] in PRIVATE or payload[45] == 0:
            return "an extended private key"
    elif payload is not None and len(payload) in (33, 34):
        return "a private key in wallet import format (WIF)"
    return None


def _descriptor(text: str) -> str | None:
    if text.startswith("{"):
        return (
            "this is a wallet file or another JSON document; give only the extended public key "
            "in it (in many wallets called xpub or master public key)"
        )
    found = _KEY_PREFIX.search(text)
    if not found or not any(mark in text for mark in "()[]/*<>#;,"):
        return None
    if len(_KEY_PREFIX.findall(text)) > 1 or "multi(" in text:
        return (
            "this names several keys: tallyd watches wallets of one key each and can not make the "
            "addresses of a multi-signature wallet; give the extended public key of a single "
            "native segwit account"
        )
    return (
        "this is an output descriptor, or a key with its path; give only the extended public key "
        f"in it: the {TEXT_CHARS} characters from {found[0]} on, without what stands in brackets "
        "before it and after the slash behind it"
    )


def _other_thing(text: str) -> str | None:
    digits = re.sub(r"^0[xX]", "", text)
    if re.fullmatch(r"(0[23][0-9a-fA-F]{64}|04[0-9a-fA-F]{128})", digits):
        return (
            "this is a single public key: it lacks the chain code, so only one address could ever "
            f"be made of it; {EXPECTED}"
        )
    bare = _URI.sub("", text, count=1).partition("?")[0]
    payload = base58check_payload(bare) if len(bare) <= 2 * TEXT_CHARS else None
    if (
        _ADDRESS.fullmatch(bare)
        or re.fullmatch(r"0[xX][0-9a-fA-F]{40}", bare)
        or (payload is not None and len(payload) == 21)
    ):
        return (
            "this is an address: tallyd gives every invoice an address of its own and needs the "
            f"key that they are made of; {EXPECTED}"
        )
    return None


def _damaged(text: str) -> str | None:
    """For texts that look as if they had once been an extended key."""
    known = text.startswith(_PUBLIC_PREFIXES)
    if not known and len(text) != TEXT_CHARS:
        return None
    for position, character in enumerate(text, start=1):
        if character.isspace():
            return f"white space at character {position}; copy the key again, in one piece"
        if character not in _ALPHABET:
            return (
                f"character {position} can not occur in a key (no 0, O, I, l and no signs do); "
                "copy the key again"
            )
    if len(text) < TEXT_CHARS:
        return f"it has {len(text)} characters of {TEXT_CHARS}: a part is missing; copy it again"
    if len(text) > TEXT_CHARS:
        return (
            f"it has {len(text)} characters instead of {TEXT_CHARS}: something was added, or it "
            "was pasted twice; copy it again"
        )
    payload = base58check_payload(text)
    if payload is None:
        return "the checksum does not match: a character is wrong; copy the key again"
    return _invalid(payload)


def _invalid(payload: bytes) -> str | None:
    """For texts with a right checksum: what BIP-32 says against them."""
    if len(payload) != PAYLOAD_BYTES:
        return None
    if payload[:4] not in PUBLIC:
        return (
            f"its version bytes 0x{payload[:4].hex()} are not known as those of an extended "
            "public key; export the key as xpub"
        )
    if not is_point(payload[45:]):
        return "it holds no point of the curve secp256k1; export it again from the wallet"
    return (
        "it says that it is a master key (depth 0) but names a parent, which BIP-32 forbids; "
        "export it again from the wallet"
    )
