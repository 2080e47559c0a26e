"""The vault's 32-byte key: given as a setting, read from a file, or made at first use."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from actors.ports import PersistentError

KEY_BYTES = 32
_DIGITS = re.compile(rb"[0-9a-fA-F]{64}\s{0,2}")
_MAX_FILE_BYTES = 1024
_MAKE = "openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where the key is: the key itself from a setting, or a file. Only a default file is made."""

    key: bytes | None = field(repr=False)
    file: Path
    default: bool
    source: str = "default"
    """Where the setting came from, for people: `credential vault_key`."""

    @property
    def setting(self) -> str:
        return "vault.key_file" if self.key is None else "vault.key"

    def __str__(self) -> str:
        where = f"{self.file}, by default" if self.default else self.source
        if self.key is None and not self.default:
            where = f"{self.file}, {self.source}"
        return f"{self.setting} ({where})"

    def read(self) -> bytes | None:
        """The key; None when its file does not exist.

        Raises PersistentError when the file can be read by others, cannot be read by us, or holds
        anything but 64 hexadecimal digits.
        """
        if self.key is not None:
            return self.key
        try:
            with self.file.open("rb") as stream:
                status = os.fstat(stream.fileno())
                content = stream.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PersistentError(f"{self} cannot be read: {error.strerror}") from error
        mode = stat.S_IMODE(status.st_mode)
        # systemd lets its service read a credential by an ACL, which shows as a right of root's
        # group.
        if mode & 0o007 or (mode & 0o070 and status.st_gid != 0):
            raise PersistentError(
                f"{self} can be read or written by others (mode {mode:04o}); chmod 600 it, and if"
                " others had access to this machine, consider the view keys known to them"
            )
        if not _DIGITS.fullmatch(content):
            raise PersistentError(
                f"{self} does not hold a key: 64 hexadecimal digits are expected; restore it from"
                f" a backup (a new one is made by `{_MAKE}`)"
            )
        return bytes.fromhex(content.decode("ascii"))

    def missing(self) -> PersistentError:
        """What to say when there is no file where a person named one."""
        return PersistentError(f"{self} does not exist; make it: umask 077; {_MAKE} > FILE")

    def make(self) -> bytes:
        """A new key in the default file, durable and complete before this returns.

        A file that has appeared meanwhile is read instead. Raises PersistentError when it cannot be
        written, or is not the default one, which only a person makes.
        """
        if not self.default:
            raise self.missing()
        key = secrets.token_bytes(KEY_BYTES)
        unfinished = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            try:
                _write(unfinished, key.hex().encode("ascii") + b"\n")
                # Unlike a rename, a link never takes the place of a key that is there.
                with suppress(FileExistsError):
                    self.file.hardlink_to(unfinished)
            finally:
                unfinished.unlink(missing_ok=True)
            _sync_folder(self.file.parent)
        except OSError as error:
            raise PersistentError(
                f"{self} cannot be made ({error.strerror}): make the state folder writable, or set"
                " vault.key"
            ) from error
        stored = self.read()
        assert stored is not None, "it was linked there, and nobody but us deletes it"
        return stored


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # of a crash of this process's namesake
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
        stream.write(content)
        stream.flush()
        os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
