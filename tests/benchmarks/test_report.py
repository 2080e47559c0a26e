"""What is said about figures: met, missed or failed, and nothing silently."""

import math

import pytest

from benchmarks import __main__ as program
from benchmarks import report
from benchmarks.latency import percentile
from benchmarks.report import Outcome, Verdict
from benchmarks.suite import SUITE, Benchmark, Target

AT_MOST = Target("the time of a thing", "thing_s", 2, unit=" s")
AT_LEAST = Target("the rate of a thing", "rate", 1.5, unit="/s", at_least=True)
MACHINE = {"cores": 2, "load before": 0.1, "quiet": True}
BENCHMARK = Benchmark("thing", "benchmarks.blocks", "run", (AT_MOST, AT_LEAST))


@pytest.mark.parametrize(
    ("target", "value", "word"),
    [
        (AT_MOST, 1.99, "met"),
        (AT_MOST, 2, "met"),
        (AT_MOST, 2.01, "MISSED"),
        (AT_LEAST, 1.49, "MISSED"),
        (AT_LEAST, 1.5, "met"),
        (AT_MOST, math.nan, "MISSED"),
        (AT_LEAST, None, "FAILED"),
    ],
)
def test_a_figure_is_held_against_its_target(target, value, word):
    verdict = Verdict(target, value)
    assert verdict.word == word
    assert verdict.met is (word == "met")


def test_table_and_summary_name_what_was_missed():
    outcome = Outcome(BENCHMARK, 3.0, {"thing_s": 2.5, "rate": 1.75})
    found = report.verdicts([outcome])
    table = report.table(found).splitlines()
    assert table[0].split() == ["what", "figure", "target"]
    assert table[2].split()[-6:] == ["2.5", "s", "≤", "2", "s", "MISSED"]
    assert table[3].split()[-4:] == ["1.75/s", "≥", "1.5/s", "met"]
    assert report.summary(found, MACHINE) == "1 of 2 targets are MISSED."
    assert report.summary(found[1:], MACHINE) == "All targets are met."
    busy = report.summary(found[1:], {**MACHINE, "quiet": False})
    assert "busy before (load 0.1 on 2 cores)" in busy


def test_a_benchmark_that_failed_has_met_nothing():
    outcome = Outcome(BENCHMARK, 3.0, failure="FAILED: no reason")
    assert [verdict.word for verdict in report.verdicts([outcome])] == ["FAILED", "FAILED"]
    found = report.document([outcome], MACHINE, quick=False)
    assert found["benchmarks"]["thing"]["failure"] == "FAILED: no reason"
    assert [one["met"] for one in found["targets"]] == [False, False]


def test_the_page_has_targets_machine_and_every_figure():
    outcome = Outcome(BENCHMARK, 61.0, {"thing_s": 1.5, "rate": 1.75, "all_s": [1.25, 2]})
    page = report.page([outcome], MACHINE, proofs="## Proofs")
    assert "| the time of a thing | 1.5 s | ≤ 2 s | met |" in page
    assert "| cores | 2 |" in page
    assert "| `all_s` | 1.25, 2 |" in page
    assert "takes about 2 minutes" in page
    assert "`make bench`" in page
    assert page.index("## Proofs") < page.index("## Machine")


def test_a_failing_child_makes_the_exit_status_1(monkeypatch, tmp_path, capfd):
    unknown = Benchmark("unknown", "benchmarks.blocks", "run", (AT_MOST,))
    monkeypatch.setattr(program, "SUITE", (unknown,))
    results = tmp_path / "results.json"
    assert program.main(["--json", str(results)]) == 1
    printed = capfd.readouterr()
    assert "FAILED" in printed.out
    assert "exit status 2" in printed.err
    assert results.exists()


def test_a_page_of_some_or_tiny_figures_is_refused(capsys):
    assert program.main(["--write", "--quick"]) == 2
    assert program.main(["--write", "--only", SUITE[0].name]) == 2
    assert "leave out" in capsys.readouterr().out


def test_percentiles_are_values_that_were_measured():
    assert [percentile([1, 2, 3, 4], percent) for percent in (1, 50, 75, 99)] == [1, 2, 3, 4]
