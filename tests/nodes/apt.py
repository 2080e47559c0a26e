"""Packages of any Debian suite, fetched by apt into a folder, with nothing installed.

apt gets its own lists, cache and (empty) package status, so the machine's stay as they are; it
still uses the machine's proxies, credentials and keyrings, and it still verifies signatures.
Works without root.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.sources import Archive

_TARGETS = {  # Debian architecture: (multiarch folder, program loader)
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<name>\S+) (?P<size>\d+)")
_SILENCE_LIMIT_S = 120.0


class InstallError(Exception):
    """Something a person must know or do; the message says what happened and what to do."""


class PackageMissingError(InstallError):
    """The suite does not have the package, or the mirror not the suite: another one may."""


@dataclass(frozen=True)
class Target:
    """What the machine runs: Debian architecture, multiarch folder, name of the loader."""

    arch: str
    triplet: str
    loader: str


def machine_target() -> Target:
    """Return this machine's target; raises InstallError where Debian's tools are missing."""
    for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InstallError(
                f"{tool} was not found: this installer unpacks Debian packages. On another "
                "system install the program yourself and put it on PATH"
            )
    arch = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if arch not in _TARGETS:
        raise InstallError(
            f"this machine's architecture is {arch!r}; the installer knows "
            f"{' and '.join(_TARGETS)}. Install the program yourself and put it on PATH"
        )
    return Target(arch, *_TARGETS[arch])


class PrivateApt:
    """apt for one suite of one archive, living in ``folder`` (a temporary one)."""

    def __init__(self, folder: Path, *, archive: Archive, suite: str, arch: str) -> None:
        self.suite = suite
        self._folder = folder
        for sub in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        signed_by = archive.signed_by
        if "\n" in signed_by:
            key = folder / "archive-key.asc"
            key.write_text(signed_by.strip() + "\n")
            signed_by = str(key)
        options = f"arch={arch} target=Packages lang=none"
        if signed_by:
            options += f" signed-by={','.join(signed_by.split())}"
        (folder / "sources.list").write_text(f"deb [{options}] {archive.uri} {suite} main\n")
        self._config = folder / "apt.conf"
        self._config.write_text(_CONFIG.format(folder=folder))

    def update(self) -> None:
        """Fetch and verify the suite's package index."""
        self._run(
            ["apt-get", "update", "-q"],
            progress=_Progress(f"package index of Debian {self.suite}", self._folder / "lists"),
        )

    def closure(self, packages: Iterable[str], *, without: str = "") -> list[str]:
        """Return the packages and every library package they need, in a stable order.

        Only libraries are followed: a program run from a folder needs neither perl nor debconf.
        Names that match the regular expression ``without`` are left out with what only they need.
        Raises PackageMissingError when the suite does not have one of ``packages``.
        """
        wanted = list(packages)
        flags = [f"--no-{kind}" for kind in _NOT_FOLLOWED]
        done = self._cache(["depends", "--recurse", *flags, *wanted])
        graph = _parse_depends(done)
        missing = [name for name in wanted if name not in graph]
        if missing:
            raise PackageMissingError(f"Debian {self.suite} has no package {' and '.join(missing)}")
        seen = dict.fromkeys(wanted)
        for name in (queue := list(wanted)):
            for needed in graph.get(name, ()):
                is_library = needed.startswith("lib") or needed == "zlib1g"
                if needed in seen or not is_library or (without and re.match(without, needed)):
                    continue
                seen[needed] = None
                queue.append(needed)
        return sorted(seen)

    def download(self, packages: list[str]) -> list[Path]:
        """Fetch and verify the packages' files; returns their paths."""
        listing = self._run(["apt-get", "--print-uris", "download", *packages])
        rows = [match for line in listing.splitlines() if (match := _URI_LINE.match(line))]
        debs = self._folder / "debs" / packages[0]
        debs.mkdir(exist_ok=True)
        self._run(
            ["apt-get", "download", "-q", *packages],
            cwd=debs,
            progress=_Progress(
                f"{packages[0]} and {len(packages) - 1} libraries"
                if len(packages) > 1
                else packages[0],
                debs,
                total_bytes=sum(int(row["size"]) for row in rows),
            ),
        )
        return [debs / row["name"] for row in rows]

    def _cache(self, arguments: list[str]) -> str:
        """Run apt-cache, for which an unknown package is an answer and not a failure."""
        done = subprocess.run(
            ["apt-cache", "-c", str(self._config), *arguments],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        unknown = "No packages found" in done.stderr or "Unable to locate" in done.stderr
        if done.returncode and not unknown:
            raise InstallError(f"apt-cache failed: {_brief(done.stderr)}")
        return done.stdout

    def _run(
        self, command: list[str], *, cwd: Path | None = None, progress: "_Progress | None" = None
    ) -> str:
        command = [command[0], "-c", str(self._config), *command[1:]]
        log = self._folder / "log"
        with log.open("w+") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd or self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                _wait(process, progress)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        text = log.read_text(errors="replace")
        if process.returncode:
            if "does not have a Release file" in text:
                raise PackageMissingError(f"the mirror does not carry Debian {self.suite}")
            what = f"{command[0]} {command[3]} for Debian {self.suite}"
            raise InstallError(f"{what} failed: {_brief(text)}\n{_advice(text)}")
        return text


_NOT_FOLLOWED = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")

# Passed with -c, so that it is read after /etc/apt/apt.conf.d and can clear what that sets: hooks
# there act on the system's folders.
_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear APT::Default-Release;
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{folder}";
Dir::State::Lists "{folder}/lists";
Dir::State::Status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::Archives "{folder}/cache/archives";
Dir::Cache::PkgCache "pkgcache.bin";
Dir::Cache::SrcPkgCache "srcpkgcache.bin";
Dir::Log "{folder}";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


class _Progress:
    """Shows what is fetched and how much of it has arrived, by the growth of a folder."""

    _LINE_INTERVAL_S = 2.0  # when the output is not a terminal

    def __init__(self, what: str, folder: Path, *, total_bytes: int = 0) -> None:
        self._what = what
        self._folder = folder
        self._total = f" of {total_bytes / 1e6:.1f}" if total_bytes else ""
        self._shown_at = time.monotonic()
        self._changed_at = self._shown_at
        self._size = 0
        self._terminal = sys.stderr.isatty()
        print(f"  {what}{f' ({total_bytes / 1e6:.1f} MB)' if total_bytes else ''} ...",
              file=sys.stderr, flush=True)  # fmt: skip

    def silent_for_s(self) -> float:
        return time.monotonic() - self._changed_at

    def show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        size = _folder_bytes(self._folder)
        is_news = size != self._size or last
        if is_news:
            self._size, self._changed_at = size, now
        due = self._terminal or now - self._shown_at >= self._LINE_INTERVAL_S
        if not is_news or not (due or last):
            return
        self._shown_at = now
        line = f"  {self._what}: {size / 1e6:.1f}{self._total} MB"
        start, end = ("\r\033[K", "\n" if last else "") if self._terminal else ("", "\n")
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)


def _folder_bytes(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # apt renames what it has verified
                continue
    return size


def _wait(process: subprocess.Popen[bytes], progress: _Progress | None) -> None:
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if progress is None:
                continue
            progress.show()
            if progress.silent_for_s() > _SILENCE_LIMIT_S:
                raise InstallError(
                    f"nothing arrived for {_SILENCE_LIMIT_S:.0f} s. Check this machine's network "
                    "and apt proxy settings, then run the command again"
                ) from None
        else:
            if progress is not None:
                progress.show(last=True)
            return


def _parse_depends(text: str) -> dict[str, list[str]]:
    """Read ``apt-cache depends``: package → what it needs, the first choice of alternatives."""
    graph: dict[str, list[str]] = {}
    needs: list[str] = []
    in_alternatives = False  # after " |Depends": the next line is only another choice
    is_virtual = False  # after "<name>": the indented lines are who provides it
    for line in text.splitlines():
        if line.startswith("    "):
            if is_virtual:
                needs.append(_plain(line))
                is_virtual = False
        elif line.startswith(" "):
            kind, _, name = line.strip().partition(": ")
            if not in_alternatives:
                is_virtual = name.startswith("<")
                if not is_virtual:
                    needs.append(_plain(name))
            in_alternatives = kind.startswith("|")
        else:
            needs = []
            in_alternatives = is_virtual = False
            if not line.startswith("<"):
                graph[_plain(line)] = needs
    return graph


def _plain(name: str) -> str:
    return name.strip().split(":", 1)[0]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _brief(log: str) -> str:
    """Return the errors of an apt log, at most a few lines, without credentials in addresses."""
    lines = [line for line in log.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    text = "\n".join((lines or log.splitlines())[-4:]).strip()
    return re.sub(r"//[^/@\s]+@", "//", text) or "it gave no reason"


def _advice(log: str) -> str:
    """Say what to do about a failed apt run."""
    if "NO_PUBKEY" in log or "is not signed" in log or "GPG error" in log:
        return (
            "The signature could not be verified: install or update the package "
            "debian-archive-keyring"
        )
    if "Unable to locate package" in log or "Can't find a source" in log:
        return "The suite lacks a package that another one needs: try again later"
    if "No space left" in log:
        return "Free some disk space, then run the command again"
    return "Check this machine's network and apt proxy settings, then run the command again"
