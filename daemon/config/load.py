"""From flags, environment, credentials and file to one `Config`, or to one report of problems."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.config.build import build
from daemon.config.document import Document, read_document
from daemon.config.environment import (
    CONFIG_VARIABLE,
    Flags,
    read_credentials,
    state_dir,
    unknown_variables,
)
from daemon.config.problems import ConfigError, Problem
from daemon.config.schema import Config, Resolved
from daemon.config.settings import DRIVERS, SETTINGS, Setting

_MAX_CREDENTIAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A text for a setting, the place it was found, and where relative paths start there."""

    text: str
    where: str
    base: Path


def load_config(
    flags: Flags | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    drivers: Collection[str] = DRIVERS,
) -> Config:
    """Read the whole configuration; flag > environment > credential > file > default.

    An empty text counts as unset at every level. Reads files and nothing else: the state folder is
    made by `create_state_dir`. Raises ConfigError with all problems at once.
    """
    flags = flags or Flags()
    environ = os.environ if environ is None else environ
    file = flags.config or (Path(name) if (name := environ.get(CONFIG_VARIABLE)) else None)
    file = file.absolute() if file else None
    document = read_document(file, environ) if file else Document()
    credentials, warnings = read_credentials(environ)
    sources = _Sources(flags, environ, credentials, document, file)
    problems = list(document.problems)
    settings: dict[str, Resolved] = {}
    for setting in SETTINGS.values():
        settings[setting.path] = sources.resolve(setting, problems)
    folder = state_dir(environ)
    config = build(
        settings,
        state_dir=folder,
        file=file,
        drivers=drivers,
        warnings=[*warnings, *unknown_variables(environ)],
        problems=problems,
    )
    if config is None:
        raise ConfigError(problems)
    return config


class _Sources:
    """Everywhere a setting can come from, in the order of precedence."""

    def __init__(
        self,
        flags: Flags,
        environ: Mapping[str, str],
        credentials: Mapping[str, Path],
        document: Document,
        file: Path | None,
    ) -> None:
        reflection = None if flags.reflection is None else str(flags.reflection).lower()
        self._flags = {
            "server.tls.client_ca": ("-client-ca", flags.client_ca),
            "server.reflection": ("-reflection", reflection),
            "log.level": ("-log-level", flags.log_level),
        }
        self._environ = environ
        self._credentials = credentials
        self._document = document
        self._here = Path.cwd()
        self._beside_file = file.parent if file else self._here

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
            return Resolved(setting.default, "default")
        try:
            if not found.text.isprintable():
                raise ValueError("holds a line break or another control character")  # noqa: TRY301 - one refusal path
            return Resolved(setting.parse(found.text, found.base), found.where)
        except ValueError as error:
            got = "" if setting.secret else f" (it is {_shown(found.text)})"
            problems.append(Problem(found.where, setting.path, f"{error}{got}"))
            return Resolved(setting.default, found.where)

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
