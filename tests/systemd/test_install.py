"""`systemd/install.sh` into a staging folder, as a packager runs it, and the command it installs.

Where CI=true the dependencies come from the registry as at an operator's; elsewhere the installed
environment borrows those of the environment that runs the tests, which saves half a minute.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "systemd/install.sh"
FULL = os.environ.get("CI") == "true"
PREFIX = "/opt/tally"


def _run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(arg) for arg in args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
        cwd="/",
    )


def _install(stage: Path, *more: str) -> subprocess.CompletedProcess[str]:
    python = Path(sys.base_prefix) / "bin/python3"
    pip_args = [] if FULL else ["PIP_ARGS=--no-deps"]
    return _run(
        SCRIPT, f"PREFIX={PREFIX}", f"DESTDIR={stage}", f"PYTHON={python}", *pip_args, *more
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    done = _install(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "systemctl enable --now tallyd" in done.stdout
    if not FULL:
        (site,) = folder.glob(f"{PREFIX[1:]}/lib/tallyd/lib/python3*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def _command(stage: Path) -> Path:
    return stage / PREFIX[1:] / "bin/tallyd"


def test_everything_is_where_it_belongs(stage):
    unit = (stage / "etc/systemd/system/tallyd.service").read_text()
    assert f"ExecStart={PREFIX}/bin/tallyd run -config /etc/tallyd/tallyd.yml\n" in unit
    assert "/usr/local" not in unit
    role = (stage / "etc/systemd/system/tallyd@.service").read_text()
    assert f"ExecStart={PREFIX}/bin/tallyd run -config /etc/tallyd/tallyd.yml -role %i\n" in role
    assert (stage / "etc/sysusers.d/tallyd.conf").is_file()
    assert (stage / "etc/tmpfiles.d/tallyd.conf").is_file()
    assert (stage / "etc/tallyd/tallyd.yml").read_text() == (
        (ROOT / "systemd/tallyd.yml").read_text()
    )
    assert (stage / PREFIX[1:] / "share/doc/tallyd/configuration.md").is_file()
    assert _command(stage).is_symlink()
    assert not list((stage / PREFIX[1:] / "lib").glob("tallyd.*")), "nothing half-made is left"


def test_nothing_installed_names_the_staging_folder(stage):
    wrong = []
    for file in stage.rglob("*"):
        small = file.is_file() and not file.is_symlink() and file.suffix not in (".pyc", ".so")
        if small and str(stage).encode() in file.read_bytes():
            wrong.append(str(file.relative_to(stage)))
    assert wrong == []


def test_the_command_runs_the_installed_code_and_no_other(stage):
    python = _command(stage).resolve().parent / "python"
    code = "import actors, api, daemon, proto; print(actors.__file__, daemon.__file__)"
    done = _run(python, "-I", "-c", code, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    for file in done.stdout.split():
        assert file.startswith(str(stage))


def test_the_command_shows_its_help(stage):
    done = _run(_command(stage), "--help", PYTHONPATH="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert "usage: tallyd" in done.stdout


def test_the_environment_may_be_moved(stage, tmp_path):
    shutil.copytree(stage / PREFIX[1:], tmp_path / "moved", symlinks=True)
    done = _run(tmp_path / "moved/bin/tallyd", "--help")
    assert done.returncode == 0, done.stderr


def test_dependencies_are_complete(stage):
    python = _command(stage).resolve().parent / "python"
    done = _run(python, "-I", "-m", "pip", "check", "--disable-pip-version-check")
    # A borrowed environment holds tools as well, whose needs are not ours.
    ours = [line for line in done.stdout.splitlines() if FULL or line.startswith("tallyd ")]
    assert ours in ([], ["No broken requirements found."])


def test_a_second_installation_keeps_the_configuration_and_replaces_the_code(stage):
    config = stage / "etc/tallyd/tallyd.yml"
    (site,) = stage.glob(f"{PREFIX[1:]}/lib/tallyd/lib/python3*/site-packages")
    stray = site / "stray.py"
    stray.write_text("")
    config.write_text("http: {port: 8081}\n")
    copy = stage.parent / "again"
    shutil.copytree(stage, copy, symlinks=True)
    done = _install(copy, "PIP_ARGS=--no-deps")  # they were installed once
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Kept your /etc/tallyd/tallyd.yml" in done.stdout
    assert (copy / "etc/tallyd/tallyd.yml").read_text() == "http: {port: 8081}\n"
    assert not list((copy / PREFIX[1:]).rglob("stray.py"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("PREFX=/opt", "unknown setting 'PREFX=/opt'"),
        ("PREFIX=opt", "PREFIX must be an absolute path, not 'opt'"),
        ("DESTDIR=stage", "DESTDIR must be an absolute path"),
        ("PREFIX=/opt/a b", "may hold only letters"),
        ("PREFIX=/opt/a|b", "may hold only letters"),
        ("PYTHON=/bin/false", "is older than Python 3.11"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, argument, message):
    done = _run(SCRIPT, f"DESTDIR={tmp_path}", argument)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_settings():
    done = _run(SCRIPT, "--help")
    assert done.returncode == 0
    for name in ("PREFIX", "DESTDIR", "PYTHON", "WHEEL", "PIP_ARGS", "never overwritten"):
        assert name in done.stdout


def test_make_install_hands_its_folders_over():
    shown = subprocess.run(
        ["make", "--dry-run", "install", "PREFIX=/opt/tally", "DESTDIR=/staging"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'systemd/install.sh PREFIX="/opt/tally" DESTDIR="/staging" PYTHON="python3"' in shown
