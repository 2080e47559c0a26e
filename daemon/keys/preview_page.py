"""What a preview of a key says, as text for a terminal and as JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass

FIRST_MINOR = 1
"""The first address tallyd gives out is 0/1 (GoiPay increments the pair before it derives)."""


@dataclass(frozen=True, slots=True)
class NetworkForm:
    """Addresses as they are written on some networks."""

    networks: tuple[str, ...]
    """As the node names them; `every network` where the text is the same on all."""
    addresses: tuple[tuple[str, str], ...]
    """(path below the key, address), in the order in which invoices get them."""
    kind: str | None = None
    """Which of several kinds of addresses that the configuration chooses from."""


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
            kind = f", {form.kind}" if form.kind else ""
            lines += ["", f"On {', '.join(form.networks)}{kind}:"]
            lines += [f"  {path:<8} {address}" for path, address in form.addresses]
        for heading, texts in (("WARNING", self.warnings), ("Note", self.notes)):
            for text in texts:
                lines += ["", *textwrap.wrap(f"{heading}: {text}", 100, subsequent_indent="  ")]
        return "\n".join(lines)

    def json(self) -> str:
        """The same as a JSON object; an address is `{"path": "0/1", "address": ...}`.

        A form has a `kind` only where there are several.
        """
        data = asdict(self)
        for form in data["forms"]:
            if form["kind"] is None:
                del form["kind"]
            form["addresses"] = [{"path": p, "address": a} for p, a in form["addresses"]]
        return json.dumps(data, indent=2, ensure_ascii=False)
