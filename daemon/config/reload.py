"""What a re-read configuration changes in a running daemon (SIGHUP)."""

from dataclasses import dataclass

from daemon.config.schema import Config


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """Paths of changed settings: `live` ones are to be applied now, `restart` ones are only to be
    named in the log.
    """

    live: tuple[str, ...]
    restart: tuple[str, ...]


def reloadable_changes(old: Config, new: Config) -> ReloadPlan:
    """Compare two configurations setting by setting.

    Of the files that settings name only the asset table is compared by its content. Certificates
    are to be read anew at every reload, whatever this says.
    """
    both = {**old.settings, **new.settings}
    changed = {path: one.live for path, one in both.items() if _changes(path, old, new)}
    # Another network brings other tokens of the same file.
    if _data(old) != _data(new) and not any(
        path.endswith((".chain_id", ".network")) for path in changed
    ):
        changed["assets.file"] = False
    return ReloadPlan(
        live=tuple(path for path, live in changed.items() if live),
        restart=tuple(path for path, live in changed.items() if not live),
    )


def _data(config: Config) -> tuple[object, object]:
    return config.catalogue.chains, config.catalogue.assets


def _changes(path: str, old: Config, new: Config) -> bool:
    before, after = old.settings.get(path), new.settings.get(path)
    if before is not None and after is not None:
        return before.value != after.value
    # Of a chain that comes or goes only what somebody has set.
    known = before or after
    return known is not None and known.source != "default"
