"""The rules of the house about imports and sizes; the import rules themselves are in .importlinter.

Each rule is also shown to fail: a check that cannot fail checks nothing.
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "api", "daemon", "proto")

CORE_MAY_IMPORT = {
    "__future__", "collections", "dataclasses", "datetime", "decimal", "enum", "functools",
    "heapq", "itertools", "math", "operator", "re", "sys", "types", "typing", "uuid",
}  # fmt: skip
"""What is pure of the standard library. `datetime` only converts: see the test on clocks."""

FAMILIES = ("bitcoin", "evm", "monero", "ton")

CODE_LINES = 450
"""Lines of a module that are not blank: about 400, and a file is not cut in two for ten lines."""
FUNCTION_LINES = 70


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages of `folder`, under the rules of this repository."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as lint; lint()",
            "--config",
            str(ROOT / ".importlinter"),
            "--no-cache",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONUTF8": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_import_rules_are_kept():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


BREACHES = {
    "An arrow never runs back up": ("actors/a.py", "import api.a"),
    "The core is pure": ("actors/core/a.py", "import time"),
    "Nothing of ours imports asyncio": ("daemon/a.py", "import asyncio"),
    "grpclib and h2": ("api/rest/a.py", "import grpclib.const"),
    "sqlalchemy and alembic": ("daemon/b.py", "import sqlalchemy"),
    "web3 and eth-*": ("daemon/drivers/bitcoin.py", "import web3"),
    "bip_utils and coincurve": ("api/b.py", "from coincurve import PublicKey"),
    "Generated code is imported by": ("daemon/c.py", "import proto.a"),
    "Generated code knows nothing": ("proto/b.py", "import daemon.a"),
}


@pytest.fixture(scope="module")
def breached(tmp_path_factory) -> str:
    """What import-linter says of a house that breaks every rule."""
    folder = tmp_path_factory.mktemp("house")
    for package in (*PACKAGES, "actors/core", "api/rest", "daemon/drivers"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        (folder / package / "a.py").touch()
    for name, line in BREACHES.values():
        with (folder / name).open("a") as module:
            module.write(f"{line}\n")
    result = lint(folder)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("rule", BREACHES)
def test_a_breach_of_each_import_rule_is_noticed(breached, rule):
    verdicts = {line.split()[-1] for line in breached.splitlines() if line.startswith(rule)} & {
        "KEPT",
        "BROKEN",
    }
    assert verdicts == {"BROKEN"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def test_the_core_imports_itself_and_pure_parts_of_the_standard_library(graph):
    core = {"actors.core", *graph.find_descendants("actors.core")}
    for module in core:
        for imported in graph.find_modules_directly_imported_by(module):
            assert imported in core | CORE_MAY_IMPORT, f"{module} imports {imported}"


def test_the_core_reads_no_clock():
    for path in (ROOT / "actors" / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"now", "utcnow", "today"}, f"{path}:{node.lineno}"


def family_of(module: str) -> str | None:
    """The driver family that a module below daemon.drivers belongs to; None if it is shared."""
    name = module.split(".")[2] if module.count(".") >= 2 else ""
    return next((f for f in FAMILIES if name == f or name.startswith(f"{f}_")), None)


def test_drivers_share_helpers_but_do_not_import_each_other(graph):
    drivers = graph.find_descendants("daemon.drivers")
    assert any(family_of(module) == "bitcoin" for module in drivers)
    for module in drivers:
        for imported in graph.find_modules_directly_imported_by(module) & drivers:
            family = family_of(imported)
            assert family in (None, family_of(module)), f"{module} imports {imported}"


@pytest.mark.parametrize("name", PACKAGES)
def test_the_names_resolve_into_this_repository(name):
    """Other projects on the package index have packages of these names."""
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve().parent == ROOT / name


# --- sizes ----------------------------------------------------------------------------------------


def sources() -> list[Path]:
    generated = {"__init__.py", "message_pool.py"}
    found = [
        path
        for folder in (*PACKAGES, "tests/helpers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not (folder == "proto" and path.name in generated)
        # A migration is one list of what it makes and is never read again.
        and path.parent.name != "versions"
    ]
    assert len(found) > 20
    return found


def code_lines(source: str) -> int:
    return sum(1 for line in source.splitlines() if line.strip())


def long_functions(source: str) -> list[str]:
    return [
        f"line {node.lineno}: {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 >= FUNCTION_LINES
    ]


def test_modules_hold_one_noun():
    sizes = {path: code_lines(path.read_text()) for path in sources()}
    too_long = {str(p.relative_to(ROOT)): n for p, n in sizes.items() if n > CODE_LINES}
    assert not too_long


def test_functions_fit_on_a_screen():
    found = {str(p.relative_to(ROOT)): long_functions(p.read_text()) for p in sources()}
    assert not {path: names for path, names in found.items() if names}


def test_the_measures_measure():
    body = "\n".join(["def f():"] + ["    pass"] * (FUNCTION_LINES - 1))
    assert long_functions(body) == ["line 1: f"]
    assert long_functions(body.removesuffix("\n    pass")) == []
    assert code_lines("a\n\n  \nb\n") == 2
