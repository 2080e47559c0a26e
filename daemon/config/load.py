"""From flags, environment, credentials and file to one `Config`, or to one report of problems."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.catalogue import AssetTable, CatalogueFileError, load_table
from daemon.config.build import build
from daemon.config.document import YamlFile
from daemon.config.environment import (
    CONFIG_VARIABLE,
    Flags,
    read_credentials,
    state_dir,
    unknown_variables,
)
from daemon.config.problems import ConfigError, Problem
from daemon.config.schema import Config, Resolved
from daemon.config.settings import Setting, SettingTable

_MAX_CREDENTIAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A text for a setting, the place it was found, and where relative paths start there."""

    text: str
    where: str
    base: Path


def load_config(flags: Flags | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """Read the whole configuration; flag > environment > credential > file > default.

    The asset file is read first, because it says which chains can be configured. An empty text
    counts as unset at every level. Reads files and nothing else: the state folder is made by
    `create_state_dir`. Raises ConfigError with all problems at once.
    """
    flags = flags or Flags()
    environ = os.environ if environ is None else environ
    file = flags.config or (Path(name) if (name := environ.get(CONFIG_VARIABLE)) else None)
    yaml = YamlFile(file.absolute() if file else None)
    assets, asset_problems = _asset_table(flags, environ, yaml)
    table = SettingTable(assets.chains.values())
    sources = _Sources(flags, environ, yaml, table)
    problems = list(sources.problems)
    if asset_problems:
        # What it would have declared is not known: do not call that unknown as well.
        problems = [*asset_problems, *(one for one in problems if not _of_a_chain(one, table))]
    settings = {row.path: sources.resolve(row, problems) for row in table.rows.values()}
    config = build(
        settings,
        table=table,
        assets=assets,
        state_dir=state_dir(environ),
        file=yaml.file,
        warnings=[*sources.warnings, *unknown_variables(environ, table)],
        problems=problems,
    )
    if config is None:
        raise ConfigError(problems)
    return config


def _asset_table(
    flags: Flags, environ: Mapping[str, str], yaml: YamlFile
) -> tuple[AssetTable, list[Problem]]:
    """The built-in table, extended by the file that the configuration names if that can be used."""
    built_in = load_table()
    first = SettingTable(built_in.chains.values())
    # What is wrong with the setting itself is found again when all of them are read.
    named = _Sources(flags, environ, yaml, first).resolve(first.rows["assets.file"], [])
    if not isinstance(named.value, Path):
        return built_in, []
    try:
        return load_table(named.value), []
    except CatalogueFileError as error:
        found = [Problem(named.source, "assets.file", one) for one in error.problems]
        return built_in, found


def _of_a_chain(problem: Problem, table: SettingTable) -> bool:
    """Whether it is about a chain that `table` does not have."""
    group, _, chain = problem.setting.partition(".")
    return group == "coin" and chain.partition(".")[0] not in table.families


class _Sources:
    """Everywhere a setting can come from, in the order of precedence.

    `problems` are those of the file's form; `warnings` those of the credentials' names.
    """

    def __init__(
        self,
        flags: Flags,
        environ: Mapping[str, str],
        yaml: YamlFile,
        table: SettingTable,
    ) -> None:
        reflection = None if flags.reflection is None else str(flags.reflection).lower()
        self._flags = {
            "server.tls.client_ca": ("-client-ca", flags.client_ca),
            "server.reflection": ("-reflection", reflection),
            "log.level": ("-log-level", flags.log_level),
            "roles": ("-role", ",".join(flags.roles)),
        }
        self._environ = environ
        self._credentials, self.warnings = read_credentials(environ, table)
        self._document = yaml.read(environ, table)
        self.problems: Sequence[Problem] = self._document.problems
        self._here = Path.cwd()
        self._beside_file = yaml.file.parent if yaml.file else self._here

    def resolve(self, setting: Setting, problems: list[Problem]) -> Resolved:
        """The setting's value; a refused text is added to `problems` and yields the default."""
        try:
            found = self._find(setting)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            where = f"credential {setting.credential}"
            problems.append(Problem(where, setting.path, f"can not be read: {reason}"))
            found = None
        if found is None:
            return Resolved(setting.default, "default", setting.live)
        try:
            if not found.text.isprintable():
                raise ValueError("holds a line break or another control character")  # noqa: TRY301 - one refusal path
            return Resolved(setting.parse(found.text, found.base), found.where, setting.live)
        except ValueError as error:
            got = "" if setting.secret else f" (it is {_shown(found.text)})"
            problems.append(Problem(found.where, setting.path, f"{error}{got}"))
            return Resolved(setting.default, found.where, setting.live)

    def _find(self, setting: Setting) -> _Candidate | None:
        flag, text = self._flags.get(setting.path, ("", None))
        if text:
            return _Candidate(text, f"flag {flag}", self._here)
        for name in setting.env_names:
            if text := self._environ.get(name):
                return _Candidate(text, f"environment {name}", self._here)
        if file := self._credentials.get(setting.credential):
            where = f"credential {setting.credential}"
            if setting.is_path:
                # The credential is the very file that the setting names.
                return _Candidate(str(file), where, self._here)
            if text := _read_credential(file):
                return _Candidate(text, where, self._here)
        if (entry := self._document.entries.get(setting.path)) and entry.text:
            return _Candidate(entry.text, entry.where, self._beside_file)
        return None


def _read_credential(file: Path) -> str:
    with file.open("rb") as stream:
        raw = stream.read(_MAX_CREDENTIAL_BYTES)
    # An editor's or echo's last line break is no part of the secret.
    return raw.decode("utf-8", errors="backslashreplace").rstrip("\r\n")


def _shown(text: str) -> str:
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return '"' + "".join(char if char.isprintable() else "?" for char in short) + '"'
