"""What a re-read configuration changes in a running daemon (SIGHUP)."""

from dataclasses import dataclass

from daemon.config.schema import Config
from daemon.config.settings import SETTINGS


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """Paths of changed settings: `live` ones are to be applied now, `restart` ones are only to be
    named in the log.
    """

    live: tuple[str, ...]
    restart: tuple[str, ...]


def reloadable_changes(old: Config, new: Config) -> ReloadPlan:
    """Compare two configurations setting by setting.

    Contents of files (certificates, cookies, the asset table) are not looked at: certificates are
    to be read anew at every reload, whatever this says.
    """
    changed = [path for path in SETTINGS if old.settings[path].value != new.settings[path].value]
    return ReloadPlan(
        live=tuple(path for path in changed if SETTINGS[path].live),
        restart=tuple(path for path in changed if not SETTINGS[path].live),
    )
