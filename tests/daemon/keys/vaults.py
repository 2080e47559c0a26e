"""Vaults for tests."""

from pathlib import Path

from daemon.keys import KeyPlace, Vault


def vault_of(key=bytes(range(32)), *, said=None):
    place = KeyPlace(key=key, file=Path("unused"), default=False, source="environment A_TEST")
    return Vault(place, warn=(said if said is not None else []).append)


def vault_in(folder, *, default=True, said=None):
    place = KeyPlace(key=None, file=folder / "vault.key", default=default, source="tallyd.yml:1")
    return Vault(place, warn=(said if said is not None else []).append)
