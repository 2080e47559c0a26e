"""pytest plugin: with CI=true in the environment a skipped test is a failed one.

Elsewhere skips are listed with their reasons at the end (``-ra`` in pyproject.toml). Expected
failures (xfail) are no skips.
"""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test, by mark, fixture or call."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _turn(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module, as by pytest.importorskip."""
    report = yield
    _turn(report)
    return report


def _turn(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or os.environ.get("CI", "").lower() not in ("true", "1"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped where CI=true allows no skips: {reason}"
