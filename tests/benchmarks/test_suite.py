"""Every benchmark runs, tiny, and reports what its targets are about. No figure is judged here."""

import json
import math
import subprocess
import sys

import pytest

from benchmarks.report import ROOT
from benchmarks.suite import SUITE
from tests.nodes.install import find, how_to_install

NEEDS = {
    "latency": ["btc"],
    "house": ["btc"],
    "recovery": ["btc", "postgres"],
    "ton-follow": ["ton"],
    "payment-page": ["btc"],
}


@pytest.mark.parametrize("benchmark", SUITE, ids=lambda benchmark: benchmark.name)
def test_a_benchmark_runs_in_small_and_reports_its_figures(benchmark, tmp_path):
    for part in NEEDS.get(benchmark.name, []):
        if find(part) is None:
            pytest.skip(how_to_install(part))
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", benchmark.name]
    ran = subprocess.run(
        [*command, "--json", results],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(results.read_text())
    assert found["quick"] is True
    assert found["machine"]["cores"] > 0
    figures = found["benchmarks"][benchmark.name]["figures"]
    for target in benchmark.targets:
        assert math.isfinite(figures[target.figure])
        assert target.what in ran.stdout
    assert [one["value"] for one in found["targets"]] == [
        figures[target.figure] for target in benchmark.targets
    ]


def test_every_benchmark_is_explained_and_promises_something():
    for benchmark in SUITE:
        assert len(benchmark.text) > 100
        assert benchmark.targets
        assert benchmark.quick
