"""Which sentences the code and the templates use."""

from __future__ import annotations

import re
from importlib.resources import files

from actors.core.chain_events import Removal
from api.page.view import Phase
from api.rest.page_form import ERRORS

_SAID = re.compile(r"(?:phrase|say)\(\s*\"([a-z_]+)\"")
_CHOSEN = re.compile(r"say\(\"([a-z_]+)\" if [a-z.]+ else \"([a-z_]+)\"")
_COPIED = re.compile(r"copied\(\"([a-z]+)\"")


def used_keys() -> set[str]:
    folder = files("api.page")
    sources = [
        one.read_text(encoding="utf-8")
        for part in (folder, folder.joinpath("templates"))
        for one in part.iterdir()
        if one.name.endswith((".py", ".html"))
    ]
    text = "\n".join(sources)
    found = set(_SAID.findall(text))
    found |= {key for pair in _CHOSEN.findall(text) for key in pair}
    for thing in _COPIED.findall(text):
        found |= {f"copy_{thing}", f"copied_{thing}"}
    for phase in Phase:
        found |= {phase.value, f"{phase.value}_text"}
    found |= {f"note_{removal.value}" for removal in Removal}
    for key in ERRORS:
        found |= {key, f"{key}_text"}
    return {key for key in found if not key.endswith("_")}
