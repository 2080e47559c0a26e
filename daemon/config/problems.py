"""What is wrong with a configuration, in sentences for the person who wrote it."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from daemon.config.settings import SettingTable


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` is ``file:line:column`` or names a flag, variable or credential; `setting` may be
    empty when no single setting is meant. Neither field ever holds a secret.
    """

    where: str
    setting: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.setting, self.message) if part)


class ConfigError(Exception):
    """The configuration can not be used. `problems` is everything that was found, in file order."""

    def __init__(self, problems: Collection[Problem]) -> None:
        assert problems
        self.problems = tuple(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{count} problem{'s' if count > 1 else ''} in the configuration:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


def unknown_setting(path: str, table: SettingTable) -> str:
    """The message for a path that is no setting: the nearest right name, else the possible ones."""
    group, _, name = path.rpartition(".")
    dotted = path.lower().replace("_", ".")
    if dotted in table.rows:
        return f"unknown setting; did you mean {dotted}?"
    siblings = [known.rpartition(".")[2] for known in table.children(group)]
    near = difflib.get_close_matches(name.lower(), siblings, n=1, cutoff=0.6)
    if near:
        return f"unknown setting; did you mean {near[0]}?"
    elsewhere = [
        known
        for known in (*table.rows, *sorted(table.groups))
        if known.rpartition(".")[2] == name.lower()
    ]
    if elsewhere and len(elsewhere) <= 3:
        return f"unknown setting here; did you mean {' or '.join(elsewhere)}?"
    whole = difflib.get_close_matches(dotted, table.rows, n=1, cutoff=0.75)
    if whole:
        return f"unknown setting; did you mean {whole[0]}?"
    return f"unknown setting; known here: {', '.join(siblings)}"


def nearest(name: str, names: Collection[str]) -> str:
    """``; did you mean X?`` or nothing, for variables and credentials."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
