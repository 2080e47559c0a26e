"""The YAML file read as texts with their places.

YAML 1.1 reads `no` as false, `017` as 15 and `1:30` as 90; here every scalar stays the text that
was written, and `daemon.config.values` decides by the setting. What could silently lose a value
(an anchor where a password begins with &, a duplicate key, a tag) is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from daemon.config.problems import Problem, unknown_setting
from daemon.config.settings import SettingTable

_MAX_FILE_BYTES = 1024 * 1024
_MAX_DEPTH = 16
_NOTHING = ("", "~", "null", "Null", "NULL")
_TEXT_TAG = "tag:yaml.org,2002:str"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as the file has it; a YAML list is joined by commas."""

    text: str
    where: str


@dataclass(slots=True)
class Document:
    """The file's settings by path, and what is wrong with its form."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class YamlFile:
    """The file as it was at one moment; what its settings are depends on the table of settings.

    Without a file there is nothing in it. Never raises for what a file contains.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._problems: list[Problem] = []
        self._root = None if file is None else self._open(file)

    def read(self, environ: Mapping[str, str], table: SettingTable) -> Document:
        """Its settings along `table`, with ``${VAR}`` expanded in their values."""
        document = Document(problems=[*self._problems])
        if self.file is not None and self._root is not None:
            _Reader(self.file, environ, table, document).read(self._root)
        return document

    def _open(self, file: Path) -> yaml.Node | None:
        try:
            raw = file.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._refuse(str(file), f"can not be read: {reason}")
            return None
        if len(raw) > _MAX_FILE_BYTES:
            message = f"is larger than {_MAX_FILE_BYTES} bytes: this can not be a configuration"
            self._refuse(str(file), message)
            return None
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self._refuse(f"{file}:{line}", "is not UTF-8 text")
            return None
        return self._compose(text, file)

    def _compose(self, text: str, file: Path) -> yaml.Node | None:
        try:
            refused = _refuse_forms(text)
            if refused is None:
                return yaml.compose(text, Loader=yaml.BaseLoader)
            place, message = f"{file}:{refused[0]}", refused[1]
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            place = f"{file}:{line}"
            message = "holds a control character, which YAML does not allow"
        except yaml.MarkedYAMLError as error:
            # Neither the snippet nor the problem's own text is shown: it could quote a password.
            place = f"{file}:{_place(error.problem_mark)}" if error.problem_mark else str(file)
            message = _syntax_message(text, error)
        self._refuse(place, message)
        return None

    def _refuse(self, where: str, message: str) -> None:
        self._problems.append(Problem(where, "", message))


def _place(mark: yaml.Mark | yaml._yaml.Mark | None) -> str:
    assert mark is not None, "PyYAML marks all that it makes from a text"
    return f"{mark.line + 1}:{mark.column + 1}"


def _refuse_forms(text: str) -> tuple[str, str] | None:
    """The first use of a YAML feature that this file does without, or None.

    Works on events, which PyYAML makes without recursion: a file of a million brackets ends here.
    """
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                return _place(event.start_mark), "starts a second YAML document; one is allowed"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                return _place(event.start_mark), f"is nested deeper than {_MAX_DEPTH} levels"
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            message = f'a value that begins with {mark} needs quotes: "{mark}…"'
            return _place(event.start_mark), message
        if getattr(event, "tag", None) not in (None, _TEXT_TAG):
            return _place(event.start_mark), 'a value that begins with ! needs quotes: "!…"'
    return None


def _syntax_message(text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "is not valid YAML: indent with spaces, not with tabs"
    if "${" in line and "{" in line.replace("${", ""):
        return 'is not valid YAML: inside { } write variables in quotes: "${NAME}"'
    if mark and line[mark.column : mark.column + 1] in ("%", "@", "`", "*", "&", "!"):
        return "is not valid YAML: put this value in quotes"
    return "is not valid YAML: check indentation, colons and quotes here and on the line before"


class _Reader:
    """Walks the nodes along the table of settings; it never descends into what is unknown."""

    def __init__(
        self, file: Path, environ: Mapping[str, str], table: SettingTable, document: Document
    ) -> None:
        self._file = file
        self._environ = environ
        self._table = table
        self._document = document

    def read(self, root: yaml.Node) -> None:
        if isinstance(root, yaml.ScalarNode) and root.value in _NOTHING:
            return
        if not isinstance(root, yaml.MappingNode):
            self._refuse(root, "", "must hold settings such as `server:` at its top")
            return
        self._group(root, "")

    def _where(self, node: yaml.Node) -> str:
        return f"{self._file}:{_place(node.start_mark)}"

    def _refuse(self, node: yaml.Node, path: str, message: str) -> None:
        self._document.problems.append(Problem(self._where(node), path, message))

    def _group(self, node: yaml.MappingNode, group: str) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, group, "a setting's name must be a plain word")
                continue
            path = f"{group}.{key.value}" if group else key.value
            if path not in self._table.rows and path not in self._table.groups:
                self._refuse(key, _printable(path), unknown_setting(path, self._table))
            elif key.value in seen:
                line = seen[key.value]
                self._refuse(key, path, f"is set twice; the first time on line {line}")
            else:
                seen[key.value] = key.start_mark.line + 1
                self._value(value, path)

    def _value(self, node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NOTHING:
            return
        if isinstance(node, yaml.MappingNode) and path in self._table.groups:
            self._group(node, path)
        elif path not in self._table.rows:
            below = ", ".join(known.rpartition(".")[2] for known in self._table.children(path))
            self._refuse(node, path, f"is a group: write its settings below it ({below})")
        elif isinstance(node, yaml.ScalarNode):
            self._store(node, path, [node])
        elif isinstance(node, yaml.SequenceNode) and self._table.rows[path].many:
            self._store(node, path, node.value)
        else:
            self._refuse(node, path, "takes one value, not a list or a group")

    def _store(self, node: yaml.Node, path: str, parts: list[yaml.Node]) -> None:
        texts: list[str] = []
        for part in parts:
            if not isinstance(part, yaml.ScalarNode):
                self._refuse(part, path, "takes a list of plain values")
                return
            try:
                texts.append(expand(part.value, self._environ))
            except ValueError as error:
                self._refuse(part, path, str(error))
                return
        self._document.entries[path] = Entry(",".join(filter(None, texts)), self._where(node))


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with ``${VAR}`` and ``${VAR:-default}`` replaced; ``$${`` stands for ``${``.

    An unset variable becomes an empty text, as in GoiPay; the default also stands in for an empty
    one. A ``$`` that no ``{`` follows stays, so that passwords need no escaping. The result is not
    expanded again. ValueError for what is no variable name.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = _VARIABLE_NAME.fullmatch(match[1]) if match[1] is not None else None
        if name is None:
            raise ValueError(
                "write ${NAME} or ${NAME:-default}; $${ stands for the signs themselves"
            )
        return environ.get(name[1]) or name[2] or ""

    return _VARIABLE.sub(replace, text)


def _printable(path: str) -> str:
    shown = path if len(path) <= 80 else f"{path[:80]}…"
    return "".join(char if char.isprintable() else "?" for char in shown)
