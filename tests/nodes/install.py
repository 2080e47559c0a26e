"""Get real nodes and a database server for tests and the demo, without root.

    python -m tests.nodes.install [btc] [ltc] [postgres] [xmr] [evm] [grpc-js] [solc] [ton]
                                  [chromium] [fonts] [axe] [--dest DIR] [--mirror URL]

Downloads Debian packages with their libraries through apt, verified, and unpacks each into a
folder of its own below DIR; the system is not changed. Every program is replaced there by a small
script that runs it with that folder's own loader and libraries, so packages of a newer Debian run
on an older one. What Debian does not have comes from npm (tests/nodes/npm.py). The folders can be
moved. A folder appears whole or not at all. Needs nothing but Python's standard library, and
Debian's apt-get and dpkg-deb.
"""

import argparse
import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.apt import (
    InstallError,
    PackageMissingError,
    PrivateApt,
    Target,
    machine_target,
)
from tests.nodes.npm import (
    NPM_RECIPES,
    RUNTIME,
    NpmRecipe,
    Runtime,
    find_runtime,
    install_packages,
    install_runtime,
    program_of,
)
from tests.nodes.sources import NoArchiveError, archive_at, debian_archive

DEFAULT_DEST = Path(__file__).resolve().parents[2] / ".cache" / "nodes"
_STAMP = "installed"


@dataclass(frozen=True)
class Recipe:
    """How to get one server: the first suite that has the package wins.

    ``programs`` are glob patterns below the unpacked root; without one the recipe is data. ``also``
    are packages of the same suite that it cannot do without and that are no libraries. ``without``
    is a regular expression of library packages that the programs can do without. ``system`` are
    patterns of the same programs where the machine may already have them. Raise ``revision`` to
    have it installed anew.

    Without ``own_loader`` the programs take the machine's loader and C library, and only their
    other libraries from the folder: for those that start themselves anew as /proc/self/exe, which
    would be the loader. They then have to be of no newer Debian than the machine.
    """

    title: str
    choices: tuple[tuple[str, str], ...]  # (suite, package)
    programs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    without: str = ""
    system: tuple[str, ...] = ()
    own_loader: bool = True
    revision: int = 1

    @property
    def main_program(self) -> str:
        return self.programs[0].rpartition("/")[2] if self.programs else ""

    @property
    def stamp(self) -> str:
        also = f" {self.also}" if self.also else ""
        return f"{self.revision} {self.choices} {self.programs}{also}\n"


RECIPES: dict[str, Recipe | NpmRecipe] = {
    "btc": Recipe(
        "Bitcoin Knots",
        choices=(("sid", "bitcoin-knots"), ("forky", "bitcoin-knots")),
        programs=("usr/bin/bitcoind", "usr/bin/bitcoin-cli"),
    ),
    "ltc": Recipe(
        "Litecoin",
        # usr/bin/litecoind is a shell script that writes into the home folder.
        choices=(("bookworm", "litecoind"), ("trixie", "litecoind"), ("sid", "litecoind")),
        programs=("usr/lib/litecoin/litecoind", "usr/bin/litecoin-cli"),
    ),
    "postgres": Recipe(
        "PostgreSQL",
        choices=(("bookworm", "postgresql-15"), ("trixie", "postgresql-17")),
        programs=("usr/lib/postgresql/*/bin/postgres", "usr/lib/postgresql/*/bin/initdb"),
        without="libllvm",  # only for its just-in-time compiler: 24 MB, and tests turn it off
        system=("usr/lib/postgresql/1[3-9]/bin/postgres", "usr/lib/postgresql/[2-9]?/bin/postgres"),
    ),
    "xmr": Recipe(
        "Monero",
        choices=(("trixie", "monero"), ("forky", "monero"), ("sid", "monero")),
        programs=("usr/bin/monerod", "usr/bin/monero-wallet-rpc"),
    ),
    "chromium": Recipe(
        "Chromium",
        # The browser without windows: two thirds of the size, and it starts in half the time.
        choices=(
            ("bookworm", "chromium-headless-shell"),
            ("trixie", "chromium-headless-shell"),
        ),
        programs=("usr/lib/chromium/chromium-headless-shell",),
        also=("chromium-common",),
        without="libc6$|libgtk",
        system=("usr/bin/chromium-headless-shell", "usr/bin/chromium"),
        own_loader=False,
    ),
    # What a page is drawn with: Latin and Arabic, and Chinese. The same on every machine.
    "fonts": Recipe(
        "Fonts",
        choices=(("bookworm", "fonts-dejavu-core"), ("trixie", "fonts-dejavu-core")),
        also=("fonts-wqy-microhei",),
    ),
    **NPM_RECIPES,
}


def find(node: str, dest: Path = DEFAULT_DEST) -> Path | None:
    """Return the path of a node's main program, or None when it is not on this machine.

    Looks in ``dest``, then where the system keeps such programs, then along PATH. Of a library the
    path is its folder, the one that holds ``node_modules``; of data the root it was unpacked to.
    """
    recipe = RECIPES[node]
    if not is_installed(node, dest):
        return _system_program(recipe)
    if isinstance(recipe, NpmRecipe):
        return program_of(recipe, dest / node) if recipe.program else dest / node
    root = dest / node / "root"
    return _one(root, recipe.programs[0]) if recipe.programs else root


def is_installed(node: str, dest: Path = DEFAULT_DEST) -> bool:
    """Whether ``dest`` holds the node as the current recipe makes it, and it can be used."""
    recipe = RECIPES[node]
    try:
        if (dest / node / _STAMP).read_text() != recipe.stamp:
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    # A library needs its Node.js, which may have gone since.
    is_library = isinstance(recipe, NpmRecipe) and not recipe.program and recipe.needs_node
    return not is_library or find_runtime(dest) is not None


def how_to_install(node: str) -> str:
    """Return the reason and the remedy, for a test that has to be skipped."""
    title = RECIPES[node].title
    return f"{title} is not installed here: run 'python -m tests.nodes.install {node}'"


def install(nodes: list[str], *, dest: Path = DEFAULT_DEST, mirror: str | None = None) -> None:
    """Install what is missing of ``nodes``; raises InstallError when one cannot be had.

    Safe to call from several processes at once: the others wait for the first.
    """
    if all(is_installed(node, dest) for node in nodes):
        return
    dest.mkdir(parents=True, exist_ok=True)
    with _lock(dest / ".lock"):
        missing = [node for node in nodes if not is_installed(node, dest)]
        for stale in dest.glob(".unpacking-*"):
            shutil.rmtree(stale)
        if missing:
            _install_missing(missing, dest, mirror)


def _install_missing(nodes: list[str], dest: Path, mirror: str | None) -> None:
    work = dest / f".unpacking-{os.getpid()}"
    debian = functools.cache(lambda: _Debian(work, mirror))
    try:
        for node in nodes:
            recipe = RECIPES[node]
            _say(f"{recipe.title}:")
            if isinstance(recipe, NpmRecipe):
                install_packages(recipe, into=work / node, runtime=_runtime(work, dest))
            else:
                debian().install(recipe, into=work / node)
            (work / node / _STAMP).write_text(recipe.stamp)
            _put(work / node, dest / node)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _runtime(work: Path, dest: Path) -> Runtime:
    """Return a Node.js with npm, which is installed if need be."""
    runtime = find_runtime(dest)
    if runtime is None:
        _say("  Node.js, because this machine has none with npm (61 MB) ...")
        install_runtime(work / RUNTIME)
        _put(work / RUNTIME, dest / RUNTIME)
        runtime = find_runtime(dest)
        assert runtime is not None
    return runtime


def _put(made: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)
    _say(f"  installed: {place}")


class _Debian:
    """Debian's packages: the machine's architecture and archive, one private apt per suite."""

    def __init__(self, work: Path, mirror: str | None) -> None:
        target = self._target = machine_target()
        try:
            archive = archive_at(mirror) if mirror else debian_archive()
        except NoArchiveError as error:
            raise InstallError(str(error)) from None

        @functools.cache
        def apt_for(suite: str) -> PrivateApt:
            apt = PrivateApt(work / f"apt-{suite}", archive=archive, suite=suite, arch=target.arch)
            apt.update()
            return apt

        self._apt_for = apt_for

    def install(self, recipe: Recipe, *, into: Path) -> None:
        debs = _download(recipe, self._apt_for)
        _unpack(debs, into=into, recipe=recipe, target=self._target)


def _download(recipe: Recipe, apt_for: Callable[[str], PrivateApt]) -> list[Path]:
    """Fetch the recipe's package and libraries from the first suite that has it."""
    refusals = []
    for suite, package in recipe.choices:
        try:
            apt = apt_for(suite)
            names = apt.closure([package, *recipe.also], without=recipe.without)
        except PackageMissingError as error:
            refusals.append(str(error))
            continue
        return apt.download([package, *(name for name in names if name != package)])
    yourself = f", or install {recipe.main_program} yourself and put it on PATH"
    raise InstallError(
        f"{recipe.title} cannot be had: {'; '.join(refusals)}. Name another Debian mirror with "
        f"--mirror{yourself if recipe.main_program else ''}"
    )


def _unpack(debs: list[Path], *, into: Path, recipe: Recipe, target: Target) -> None:
    """Unpack packages and make the recipe's programs run from where they are."""
    root = into / "root"
    root.mkdir(parents=True)
    for deb in debs:
        done = subprocess.run(
            ["dpkg-deb", "-x", deb, root], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InstallError(f"{deb.name} cannot be unpacked: {done.stderr.strip()[-500:]}")
    libraries = _library_folders(root, target)
    for pattern in recipe.programs:
        program = _one(root, pattern)
        loader = None
        if recipe.own_loader:
            loader = _one(root, f"**/{target.triplet}/{target.loader}").relative_to(root)
        _wrap(program, root=root, loader=loader, libraries=libraries)
        _check_runs(program, recipe)


def _library_folders(root: Path, target: Target) -> list[Path]:
    """Also those below the usual two, which libraries find by an absolute path (PulseAudio's)."""
    usual = [root / prefix / target.triplet for prefix in ("usr/lib", "lib")]
    below = {found.parent for folder in usual for found in folder.glob("*/lib*.so*")}
    return [place.relative_to(root) for place in (*usual, *sorted(below)) if place.is_dir()]


def _wrap(program: Path, *, root: Path, loader: Path | None, libraries: list[Path]) -> None:
    """Put a script in the program's place that runs it with the folder's own libraries.

    The program is told the script's path as its own, so programs that look for their companions
    and data beside themselves (PostgreSQL) find them. --inhibit-cache keeps the folder's loader
    from choosing the system's libraries, which may be older than the program. Without one it is the
    machine's that runs the program.
    """
    elf = program.with_name(program.name + ".elf")
    program.rename(elf)
    up = "/".join([".."] * (len(program.relative_to(root).parts) - 1))
    path = ":".join(f"$root/{folder}" for folder in libraries)
    run = f'export LD_LIBRARY_PATH="{path}"\nexec'
    if loader is not None:
        run = f'exec "$root/{loader}" --inhibit-cache --argv0 "$0" --library-path "{path}"'
    program.write_text(f'#!/bin/sh\nroot="${{0%/*}}/{up}"\n{run} "$0.elf" "$@"\n')
    program.chmod(0o755)


def _check_runs(program: Path, recipe: Recipe) -> None:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise InstallError(
            f"{program.name} was unpacked but does not run here: {done.stderr.strip()[-500:]}\n"
            f"Install {recipe.title} yourself and put {recipe.main_program} on PATH"
        )
    _say(f"  {done.stdout.splitlines()[0]}")


def _one(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if not found:
        raise InstallError(
            f"the packages in {root} hold no {pattern}: Debian has changed their layout, and "
            "tests/nodes/install.py has to follow"
        )
    return found[-1]


def _system_program(recipe: Recipe | NpmRecipe) -> Path | None:
    for pattern in _system_places(recipe):
        # By the number, so that 9 comes before 15.
        found = sorted(Path("/").glob(pattern), key=lambda p: (len(str(p)), str(p)))
        if found:
            return found[-1]
    on_path = shutil.which(recipe.main_program)
    return Path(on_path) if on_path else None


def _system_places(recipe: Recipe | NpmRecipe) -> tuple[str, ...]:
    return recipe.system if isinstance(recipe, Recipe) else ()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it when the process ends in whatever way."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another installation is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.nodes.install", description=__doc__.partition("\n")[0]
    )
    # No `choices`: argparse checks the empty list of an optional positional against them.
    parser.add_argument(
        "node", nargs="*", help=f"of {', '.join(RECIPES)}; default: btc ltc postgres"
    )
    parser.add_argument("--dest", type=Path, default=DEFAULT_DEST, help="default: %(default)s")
    parser.add_argument("--mirror", help="address of a Debian archive, instead of the machine's")
    options = parser.parse_args(arguments)
    for node in options.node:
        if node not in RECIPES:
            parser.error(f"unknown node {node!r}: choose from {', '.join(RECIPES)}")
    dest = options.dest.absolute()
    nodes = options.node or ["btc", "ltc", "postgres"]
    try:
        missing = [node for node in nodes if not _satisfied(node, dest)]
        install(missing, dest=dest, mirror=options.mirror)
    except InstallError as error:
        _say(f"error: {error}")
        return 1
    except OSError as error:
        _say(
            f"error: {error.strerror}: {error.filename or dest}. Another folder is set with --dest"
        )
        return 1
    except KeyboardInterrupt:
        _say("interrupted; nothing was left half-installed")
        return 130
    return 0


def _satisfied(node: str, dest: Path) -> bool:
    """Whether nothing has to be done: only PostgreSQL and Chromium may be the system's own.

    Nodes must be the versions that the tests pin; any supported PostgreSQL behaves alike.
    """
    if is_installed(node, dest):
        return True
    recipe = RECIPES[node]
    return bool(_system_places(recipe)) and _system_program(recipe) is not None


if __name__ == "__main__":
    sys.exit(main())
