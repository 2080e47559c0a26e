"""A skip is told at the end with its reason, and fails the run where CI=true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SKIPS = {
    "mark": "@pytest.mark.skip(reason='WHY')\ndef test_x(): pass\n",
    "call": "def test_x(): pytest.skip('WHY')\n",
    "fixture": "@pytest.fixture\ndef node(): pytest.skip('WHY')\ndef test_x(node): pass\n",
    "module": "pytest.skip('WHY', allow_module_level=True)\ndef test_x(): pass\n",
    "import": "pytest.importorskip('no_such_module_at_all', reason='WHY')\ndef test_x(): pass\n",
}
NO_SKIPS = {
    "pass": "def test_x(): pass\n",
    "xfail": "@pytest.mark.xfail(reason='known')\ndef test_x(): assert False\n",
    "xfail call": "def test_x(): pytest.xfail('known')\n",
}


def run(tmp_path: Path, source: str, *, ci: str | None) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_sample.py").write_text("import pytest\n" + source)
    environment = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # faster
    if ci is not None:
        environment["CI"] = ci
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "tests.helpers.no_silent_skips",
         "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SKIPS)
def test_a_skip_fails_where_ci_is_true(tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, SKIPS[kind], ci="true")
    assert done.returncode != 0, done.stdout
    assert "WHY" in done.stdout


@pytest.mark.parametrize("ci", [None, "", "false"])
@pytest.mark.parametrize("kind", ["mark", "fixture"])
def test_a_skip_is_listed_with_its_reason_elsewhere(
    tmp_path: Path, kind: str, ci: str | None
) -> None:
    done = run(tmp_path, SKIPS[kind], ci=ci)
    assert done.returncode == 0, done.stdout
    assert "SKIPPED" in done.stdout
    assert "WHY" in done.stdout


@pytest.mark.parametrize("kind", NO_SKIPS)
def test_what_is_no_skip_passes_where_ci_is_true(tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, NO_SKIPS[kind], ci="true")
    assert done.returncode == 0, done.stdout


def test_the_rule_is_registered_for_this_suite(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.hasplugin("tests.helpers.no_silent_skips")
