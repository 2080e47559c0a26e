"""The Debian archive that this machine's own apt sources name.

Nothing here knows a host name: the address of the mirror and the keyring that vouches for it are
read from the machine's apt configuration, in both formats of sources.list(5): deb822 ``.sources``
files and one-line ``.list`` files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUITES = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable")
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(.+)$")


@dataclass(frozen=True)
class Archive:
    """A place that serves Debian's ``dists/`` and ``pool/``.

    ``signed_by`` is what apt's option of that name takes (key files or fingerprints), an ASCII
    armoured key block (it then contains newlines), or empty for the machine's trusted keys.
    """

    uri: str
    signed_by: str = ""


class NoArchiveError(Exception):
    """The machine's apt sources name no Debian archive."""


def debian_archive(etc_apt: Path = Path("/etc/apt")) -> Archive:
    """Return the machine's main Debian archive; raises NoArchiveError, naming the folder read.

    Other vendors' repositories may use Debian's suite names too, so the entries are ranked: those
    whose address or key says Debian first.
    """
    found = sorted(_archives(etc_apt), key=_rank)
    if not found:
        raise NoArchiveError(
            f"no entry in {etc_apt}/sources.list or {etc_apt}/sources.list.d names a Debian "
            "archive with the component 'main'. Add Debian's, or pass the address of a Debian "
            "mirror with --mirror"
        )
    return found[0]


def archive_at(uri: str) -> Archive:
    """Return the archive at an address that a person gave, with Debian's keyring if it is here."""
    keyrings = sorted(Path("/usr/share/keyrings").glob("debian-archive-keyring.?gp"))
    return Archive(uri, ",".join(map(str, keyrings[:1])))


def _rank(archive: Archive) -> tuple[bool, bool]:
    path = archive.uri.rstrip("/")
    return (
        not path.endswith(("/debian", "/debian.list")),
        "debian-archive" not in archive.signed_by and "/debian" not in archive.signed_by,
    )


def _archives(etc_apt: Path) -> Iterator[Archive]:
    parts = etc_apt / "sources.list.d"
    one_line = [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]
    for file in filter(Path.is_file, one_line):
        yield from _parse_one_line(file.read_text(errors="replace"))
    for file in filter(Path.is_file, sorted(parts.glob("*.sources"))):
        yield from _parse_deb822(file.read_text(errors="replace"))


def _parse_one_line(text: str) -> Iterator[Archive]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match is None or not _is_debian(match["uri"], [match["suite"]], match[4].split()):
            continue
        options = dict(part.partition("=")[::2] for part in (match["options"] or "").split())
        yield Archive(match["uri"], options.get("signed-by", ""))


def _parse_deb822(text: str) -> Iterator[Archive]:
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                # A lone dot stands for an empty line inside a field, as in an embedded key.
                fields[name] += "\n" + ("" if line.strip() == "." else line.strip())
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off"):
            continue
        suites = fields.get("suites", "").split()
        for uri in fields.get("uris", "").split():
            if _is_debian(uri, suites, fields.get("components", "").split()):
                yield Archive(uri, fields.get("signed-by", "").strip())


def _is_debian(uri: str, suites: list[str], components: list[str]) -> bool:
    return (
        "main" in components
        and not uri.startswith("cdrom:")
        and any(suite in _SUITES or suite in _ALIASES for suite in suites)
    )
