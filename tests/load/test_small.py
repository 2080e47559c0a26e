"""The program itself, small: a real node and daemon, ended by Ctrl-C after some seconds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.load.customers import Habit
from tests.nodes.install import find, how_to_install

ROOT = Path(__file__).resolve().parents[2]
WIRES = ("GoiPay", "tally.v1", "REST")


def test_a_small_load_is_complete_on_every_wire_and_is_reported_when_it_is_interrupted():
    if find("btc") is None:
        pytest.skip(how_to_install("btc"))
    # In seconds: the whole is asked for, and ended after the second line of progress.
    command = [sys.executable, "-m", "tests.load", "--rate=40", "--minutes=1", "--merchants=6"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        assert program.stdout is not None
        said = []
        for line in program.stdout:
            said.append(line)
            if len([one for one in said if " s of 60: " in one]) == 2:
                program.send_signal(signal.SIGINT)
                break
        said += program.stdout
    text = "".join(said)
    assert program.returncode == 0, text
    assert "(ended early)" in text
    assert "too short to judge" in text
    files = re.search(r"all figures: (\S+), curves: (\S+)", text)
    assert files is not None, text
    figures = ROOT / files[1]
    check_figures(json.loads(figures.read_text()))
    plot = figures.with_name(files[2])
    root = ET.fromstring(plot.read_text())
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) >= 6
    assert plot.stat().st_size < 40_000
    figures.unlink()
    plot.unlink()


def check_figures(document):
    counts, latency = document["counts"], document["latency_ms"]
    assert document["errors"] == {}
    assert sum(document["habits"].values()) == counts["invoices"] > 10
    assert document["habits"].keys() == {one.value for one in Habit}
    assert counts["events"] == counts["webhooks"] == counts["server_sent_events"]
    for name in (
        *(f"create over {wire}" for wire in WIRES),
        *("poll", "payment in mempool → stream", "event → webhook"),
        *("block → CONFIRMED on tally.v1", "block → CONFIRMED on GoiPay"),
    ):
        found = latency[name]
        assert 0 < found["p50"] <= found["p90"] <= found["p99"] <= found["max"], name
    for one in document["samples"]:
        assert one["rss_bytes"] >= one["pss_bytes"] >= one["uss_bytes"] > 0
        assert one["files"] > 0
        assert one["database_bytes"] > 0
    assert 0 < document["cpu_share"] < 2
    assert document["rates_per_s"]["events"]["asked"] == 40
