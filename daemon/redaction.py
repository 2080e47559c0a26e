"""Takes keys and credentials out of what is about to be logged.

Two nets: the field's name (a password is whatever stands under `password`), and the look of the
text (user parts of URLs, extended keys, bearer tokens, `password=…` inside a longer message). Both
may take too much; neither may take too little. What they can not know is a bare hexadecimal private
key under a harmless name: hand such a value over only under its own name.
"""

import math
import re
from typing import Any

HIDDEN = "***"
_MAX_DEPTH = 4
_MAX_ITEMS = 100
_MAX_CHARS = 16 * 1024
# Longer than an extended key: what a cut through a text may leave of one.
_CUT_CHARS = 128

_BASE58 = "1-9A-HJ-NP-Za-km-z"
_SUBSTITUTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host, up to the last @ even if the password holds slashes.
    # The bounds keep a hostile text from costing more than its length.
    (
        re.compile(
            r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)"
            r"[^\s/?#@:]{0,256}:[^\s@]{0,2048}(?:@[^\s/@]{0,256}){0,8}@"
        ),
        r"\1***@",
    ),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#]{0,2048}@"), r"\1***@"),
    # Extended keys: by their look (111 characters of base58, SLIP-132), or their head alone.
    (re.compile(f"[{_BASE58}]{{100,}}"), HIDDEN),
    (re.compile(f"\\b[A-Za-z](?:prv|pub|tpv|tub)[{_BASE58}]{{16,}}"), HIDDEN),
    # Our own API keys: their first part names them.
    (re.compile(r"\btk_([0-9A-Za-z]{8})_[0-9A-Za-z]+"), r"tk_\1_***"),
    # Monero's keys as one text, private view key and public spend key.
    (re.compile(r"(?i)\b[0-9a-f]{64}\s?:\s?[0-9a-f]{64}\b"), HIDDEN),
    (re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]+\s+)?[^\s\"',]+"), r"\1***"),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9+/=._~-]{8,}"), r"\1***"),
    (
        re.compile(
            r"(?i)((?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|"
            r"(?:view|spend|priv(?:ate)?)[_-]?key)[\"']?\s*[=:]\s*)"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&)}\]\"']+)"
        ),
        r"\1***",
    ),
)

_NOT_LETTERS = re.compile(r"[^a-z0-9]+")
# Compared with the field's name in small letters without signs.
_HIDDEN_PARTS = (
    "authorization",
    "apikey",
    "credential",
    "masterpubkey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "privkey",
    "privviewkey",
    "pubspendkey",
    "secret",
    "spendkey",
    "viewkey",
    "xprv",
    "xpub",
)
_HIDDEN_ENDS = ("pass", "token", "cookie")
_HIDDEN_NAMES = ("key", "auth", "mnemonic", "seed")


def is_hidden(name: str) -> bool:
    """Whether a value under this name is hidden whatever it is."""
    plain = _NOT_LETTERS.sub("", name.lower())
    return (
        plain in _HIDDEN_NAMES
        or plain.endswith(_HIDDEN_ENDS)
        or any(part in plain for part in _HIDDEN_PARTS)
    )


def redact_text(text: str) -> str:
    """`text` without what looks like a key or a credential, nor the middle of a very long one."""
    if len(text) > _MAX_CHARS:
        half = _MAX_CHARS // 2
        # Redact first, then drop what a key cut in two has left at the edges.
        head = redact_text(text[:half])[:-_CUT_CHARS]
        tail = redact_text(text[-half:])[_CUT_CHARS:]
        return f"{head} … {len(text)} characters, shortened … {tail}"
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return text


def redact(name: str, value: object, *, depth: int = 0) -> Any:
    """`value` under `name`, made of None, bool, int, float, str, list and dict only, redacted.

    Bytes become hexadecimal; anything else its `str`. Nesting, items and texts are bounded.
    """
    if is_hidden(name):
        return HIDDEN if value not in (None, "") else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):  # JSON has no NaN.
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value).hex())
    if isinstance(value, dict | list | tuple | set | frozenset):
        if depth >= _MAX_DEPTH:
            return "…"
        if isinstance(value, dict):
            pairs = list(value.items())[:_MAX_ITEMS]
            return {str(key): redact(str(key), item, depth=depth + 1) for key, item in pairs}
        return [redact("", item, depth=depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return redact_text(str(value))
