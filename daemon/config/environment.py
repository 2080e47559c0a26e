"""What the process is given besides the file: variables, systemd's folders, command-line flags."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.config.problems import ConfigError, Problem, nearest
from daemon.config.settings import ENV_PREFIX, SettingTable

CONFIG_VARIABLE = "TALLY_CONFIG"


@dataclass(frozen=True, slots=True)
class Flags:
    """The command line's part of the configuration; None means not given."""

    config: Path | None = None
    client_ca: str | None = None
    reflection: bool | None = None
    log_level: str | None = None
    roles: tuple[str, ...] = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add GoiPay's flags, with one dash as Go programs take them and with two.

    Nothing is stored for a flag that is not given, so they may be added to a parser and to its
    subparsers at once. Read them back with `flags_from`.
    """
    group = parser.add_argument_group("configuration")
    quiet = argparse.SUPPRESS
    group.add_argument(
        "-config",
        "--config",
        metavar="FILE",
        type=Path,
        default=quiet,
        help=f"configuration file (${CONFIG_VARIABLE}; without one the defaults apply)",
    )
    group.add_argument(
        "-client-ca",
        "--client-ca",
        metavar="A.PEM,B.PEM",
        default=quiet,
        help="authorities whose client certificates are accepted (mtls), comma separated",
    )
    group.add_argument(
        "-reflection",
        "--reflection",
        action="store_true",
        default=quiet,
        help="serve gRPC reflection",
    )
    # Go accepts a switch's value behind =, and only there.
    for value, action in (("true", "store_true"), ("false", "store_false")):
        group.add_argument(
            f"-reflection={value}",
            f"--reflection={value}",
            dest="reflection",
            action=action,
            default=quiet,
            help=quiet,
        )
    group.add_argument(
        "-log-level",
        "--log-level",
        metavar="LEVEL",
        default=quiet,
        help="debug, info, warning or error",
    )
    group.add_argument(
        "-role",
        "--role",
        metavar="ROLE",
        action="append",
        dest="roles",
        default=quiet,
        help="api, deliver or watch:CHAIN, more than once for several: do only that, beside other"
        " processes on the same PostgreSQL database",
    )


def flags_from(namespace: argparse.Namespace) -> Flags:
    return Flags(
        config=getattr(namespace, "config", None),
        client_ca=getattr(namespace, "client_ca", None),
        reflection=getattr(namespace, "reflection", None),
        log_level=getattr(namespace, "log_level", None),
        roles=tuple(getattr(namespace, "roles", ())),
    )


def state_dir(environ: Mapping[str, str]) -> Path:
    """`$STATE_DIRECTORY` (its first entry, systemd.exec(5)), else `tallyd` in the XDG state home.

    A relative `$XDG_STATE_HOME` is ignored, as the XDG Base Directory Specification asks. The
    folder need not exist yet.
    """
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given).absolute()
    xdg = Path(environ.get("XDG_STATE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "tallyd"
    home = environ.get("HOME", "")
    if not home:
        message = "there is no $HOME to keep the state in: set $STATE_DIRECTORY or $XDG_STATE_HOME"
        raise ConfigError([Problem("environment", "", message)])
    return Path(home).absolute() / ".local" / "state" / "tallyd"


def create_state_dir(folder: Path) -> None:
    """Make `folder` with mode 0700, its parents too. ConfigError when that is not possible.

    An existing folder keeps its mode: systemd or the operator chose it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"the state folder can not be made ({reason}): create it or set $STATE_DIRECTORY"
        raise ConfigError([Problem(str(folder), "", message)]) from error


def read_credentials(
    environ: Mapping[str, str], table: SettingTable
) -> tuple[dict[str, Path], list[str]]:
    """Files in `$CREDENTIALS_DIRECTORY` by name, and warnings for names that mean no setting."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return {}, []
    names = {setting.credential for setting in table.rows.values()}
    try:
        found = sorted(file for file in Path(folder).iterdir() if file.is_file())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            [Problem("$CREDENTIALS_DIRECTORY", "", f"{folder} can not be read: {reason}")]
        ) from error
    warnings = [
        f"the credential {file.name} belongs to no setting{nearest(file.name, names)}"
        for file in found
        if file.name not in names
    ]
    return {file.name: file for file in found if file.name in names}, warnings


def unknown_variables(environ: Mapping[str, str], table: SettingTable) -> list[str]:
    """Warnings for TALLY_ variables that mean nothing: most are misspelt."""
    names = {CONFIG_VARIABLE, *(setting.env for setting in table.rows.values())}
    return [
        f"the environment variable {name} belongs to no setting{nearest(name, names)}"
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX) and name not in names
    ]
