"""Makes the virtual environment: `python3 tests/environment.py [extra …]`, standard library only.

Works on a bare Debian 12, where `venv` exists but Debian's python3-venv package (pip's wheel) may
not: the wheel is then taken out of Debian's python3-pip-whl package, without root and without
installing it. Does nothing, quickly, when the environment is already as `pyproject.toml` and
`constraints.txt` want it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.nodes.apt import InstallError, PrivateApt, machine_target  # noqa: E402
from tests.nodes.sources import NoArchiveError, debian_archive  # noqa: E402

SUITE = "bookworm"
FOLDER = ROOT / ".venv"
PYTHON = FOLDER / "bin" / "python"
OLDEST = (3, 11)


def main(extras: list[str]) -> None:
    if sys.version_info < OLDEST:
        sys.exit(
            f"tallyd needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and {sys.executable} is"
            f" {sys.version.split()[0]}. Name another one: make PYTHON=/path/to/python3.11 …"
        )
    wanted = _fingerprint(extras)
    stamp = FOLDER / ".stamp"
    if stamp.exists() and wanted in stamp.read_text().split() and PYTHON.exists():
        return
    if not PYTHON.exists():
        _create()
    target = f".[{','.join(extras)}]" if extras else "."
    print(f"installing tallyd{target[1:]} and what it needs into {FOLDER.name}/ …", flush=True)
    constraints = ["--constraint", "constraints.txt"] if (ROOT / "constraints.txt").exists() else []
    # A person sees the progress of each download; a log only what goes wrong.
    noise = ["--progress-bar=on"] if sys.stdout.isatty() else ["--quiet"]
    _run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-warn-script-location",
         *noise, *constraints, "--editable", target)  # fmt: skip
    stamp.write_text("\n".join(_fingerprint(part) for part in ([], extras)) + "\n")


def _fingerprint(extras: list[str]) -> str:
    digest = hashlib.sha256(repr((sys.version_info[:2], sorted(extras), str(ROOT))).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        file = ROOT / name
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def _create() -> None:
    print(f"making the virtual environment {FOLDER.name}/ with {sys.executable}", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is not None:
        venv.EnvBuilder(with_pip=True, symlinks=True).create(FOLDER)
        return
    venv.EnvBuilder(with_pip=False, symlinks=True).create(FOLDER)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _pip_wheel(Path(scratch))
        _run(PYTHON, f"{wheel}/pip", "install", "--quiet", "--no-index",
             f"--find-links={wheel.parent}", "pip")  # fmt: skip


def _pip_wheel(scratch: Path) -> Path:
    """pip as a wheel, from the system or out of Debian's package."""
    installed = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if installed:
        return installed[-1]
    print("this Python has no pip; taking it from Debian's python3-pip-whl package", flush=True)
    try:
        apt = PrivateApt(
            scratch / "apt", archive=debian_archive(), suite=SUITE, arch=machine_target().arch
        )
        apt.update()
        packages = apt.download(["python3-pip-whl"])
    except (InstallError, NoArchiveError) as error:
        sys.exit(
            f"{error}\nInstall pip (Debian: apt install python3-venv), or name a Python with it:"
            " make PYTHON=/path/to/python3.11 …"
        )
    for package in packages:
        _run("dpkg-deb", "-x", package, scratch)
    return next(scratch.glob("usr/share/python-wheels/pip-*.whl"))


def _run(*command: object, cwd: Path = ROOT) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=False)
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        sys.exit(f"{shown}\nended with status {done.returncode}: see above for what went wrong")


if __name__ == "__main__":
    main(sys.argv[1:])
