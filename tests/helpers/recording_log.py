"""A log that remembers what it was told, so that tests can ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Line(NamedTuple):
    level: str
    event: str
    fields: dict[str, object]


@dataclass
class RecordingLog:
    """`actors.ports.Log`, in memory."""

    lines: list[Line] = field(default_factory=list)

    def debug(self, event: str, **fields: object) -> None:
        self.lines.append(Line("debug", event, fields))

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(Line("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(Line("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(Line("error", event, fields))

    def of(self, event: str) -> list[Line]:
        """The lines whose event text contains `event`."""
        return [line for line in self.lines if event in line.event]

    def level(self, level: str) -> list[Line]:
        return [line for line in self.lines if line.level == level]

    def events(self, level: str) -> list[str]:
        return [line.event for line in self.level(level)]
