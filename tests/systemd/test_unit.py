"""The unit and its companions, judged by systemd's own tools."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.catalogue import load_table
from daemon.config.settings import SettingTable

SYSTEMD = Path(__file__).parents[2] / "systemd"
SETTINGS = SettingTable(load_table().chains.values()).rows
UNIT = (SYSTEMD / "tallyd.service").read_text(encoding="utf-8")
TEMPLATE = (SYSTEMD / "tallyd@.service").read_text(encoding="utf-8")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install systemd)")
    return found


def _values(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT)


def test_exposure_is_at_most_two():
    done = subprocess.run(
        [
            _tool("systemd-analyze"),
            "security",
            "--no-pager",
            "--offline=true",
            "--threshold=20",
            SYSTEMD / "tallyd.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (level,) = re.findall(r"Overall exposure level for tallyd.service: ([0-9.]+)", done.stdout)
    assert float(level) <= 2.0


def test_the_unit_for_a_role_is_the_unit_with_a_role():
    def settings(unit: str) -> list[str]:
        return [line for line in unit.splitlines() if line and not line.startswith("#")]

    pairs = zip(settings(UNIT), settings(TEMPLATE), strict=True)
    assert [pair for pair in pairs if len({*pair}) > 1] == [
        (
            "Description=tallyd, watch-only crypto payment daemon",
            "Description=tallyd, watch-only crypto payment daemon (%i)",
        ),
        (
            "ExecStart=/usr/local/bin/tallyd run -config /etc/tallyd/tallyd.yml",
            "ExecStart=/usr/local/bin/tallyd run -config /etc/tallyd/tallyd.yml -role %i",
        ),
    ]


@pytest.mark.parametrize("role", ["api", "deliver"])
def test_the_unit_for_a_role_verifies(tmp_path, role):
    """Not watch:btc, which is a fine name, but `verify` takes what follows a colon for an alias."""
    (tmp_path / "tallyd@.service").write_text(
        TEMPLATE.replace("/usr/local/bin/tallyd", sys.executable)
    )
    done = subprocess.run(
        [_tool("systemd-analyze"), "verify", "--man=no", f"tallyd@{role}.service"],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert not [line for line in done.stderr.splitlines() if "tallyd" in line], done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dropin", [None, *sorted((SYSTEMD / "examples").glob("*.conf"))], ids=str)
def test_unit_verifies_alone_and_with_each_example(tmp_path, dropin):
    unit = tmp_path / "tallyd.service"
    unit.write_text(UNIT.replace("/usr/local/bin/tallyd", sys.executable))
    if dropin is not None:
        folder = tmp_path / "tallyd.service.d"
        folder.mkdir()
        shutil.copy(dropin, folder)
        # The other service is not installed here, which is all that verify would complain of.
        other = re.findall(r"(?m)^(?:Requires|Wants)=(.*)$", dropin.read_text())
        for name in other:
            (tmp_path / name).write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        [_tool("systemd-analyze"), "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in done.stderr.splitlines() if "tallyd" in line]
    assert not complaints, done.stderr
    assert done.returncode == 0, done.stderr


def test_credentials_are_settings_and_all_may_be_absent():
    names = {setting.credential for setting in SETTINGS.values()}
    credentials = [value.split(":") for value in _values("LoadCredential")]
    assert credentials
    for name, source in credentials:
        assert name in names
        # A name, not a path: systemd then looks in its credential stores and skips what is missing.
        assert source == f"tallyd.{name}"
    secrets = {
        setting.credential
        for setting in SETTINGS.values()
        if setting.secret and setting.path != "database.url"
    }
    assert secrets <= {name for name, _ in credentials}


def test_unit_speaks_the_daemons_language():
    assert _values("Type") == ["notify"]
    assert _values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert _values("WatchdogSec") == ["30s"]
    assert _values("StateDirectoryMode") == ["0700"]


def test_sysusers_and_tmpfiles_are_accepted(tmp_path):
    for tool, file, extra in (
        ("systemd-sysusers", "tallyd.sysusers", []),
        ("systemd-tmpfiles", "tallyd.tmpfiles", ["--create"]),
    ):
        (tmp_path / "etc").mkdir(exist_ok=True)
        done = subprocess.run(
            [_tool(tool), *extra, f"--root={tmp_path}", SYSTEMD / file],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "tallyd:" in (tmp_path / "etc/passwd").read_text()
