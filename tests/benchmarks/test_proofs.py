"""What is kept of long runs: refused when it proves nothing, and shown as it is kept."""

import json
import math

import pytest

from benchmarks import proofs
from benchmarks.__main__ import main

FIGURES = {"histories": 10_000, "per_10_minutes": 11_500, "failing_seeds": 1, "failed": [4711]}
MACHINE = dict.fromkeys(proofs._DEPENDS_ON, "some") | {"load before": 0.5, "cores": 2}
PAGE = "# Performance\n\nA table.\n\n## Machine\n\nA machine.\n\n## All figures\n\nThe end.\n"
README = "Read me.\n\n<!-- proofs -->\nold\n<!-- end of proofs -->\n\nThe end.\n"


@pytest.fixture
def kept(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    readme = tmp_path / "readme.md"
    readme.write_text(README)
    return {"folder": tmp_path / "kept", "page": page, "readme": readme}


def test_a_proof_is_kept_and_shown(kept):
    path = proofs.record("simulation", command="make sim", figures=FIGURES, machine=MACHINE, **kept)
    document = json.loads(path.read_text())
    assert document["figures"] == FIGURES
    assert document["machine"]["load before"] == 0.5
    page = kept["page"].read_text()
    assert "| the same, per 10 minutes | 11500 | ≥ 10000 | met |" in page
    assert "| the same, seeds that fail | 1 | ≤ 0 | MISSED |" in page
    assert "| `failed` | 4,711 |" in page
    assert "`make sim`: date some" in page
    readme = kept["readme"].read_text()
    assert "| the same, per 10 minutes | 11500 | ≥ 10000 | met | `make sim` |" in readme
    assert (readme[:11], readme[-11:]) == (README[:11], README[-11:])
    assert "old" not in readme


def test_the_newest_takes_the_place_of_the_last_and_leaves_the_page_alone(kept):
    for failing in (1, 0):
        figures = FIGURES | {"failing_seeds": failing}
        proofs.record("simulation", command="make sim", figures=figures, **kept)
    page = kept["page"].read_text()
    assert page.count(proofs.HEADING) == 1
    assert "MISSED" not in page
    before, _, after = page.partition(proofs.section(kept["folder"]) + "\n\n")
    assert before + after == PAGE


@pytest.mark.parametrize("missing", [None, math.nan, "many"])
def test_a_proof_without_what_it_proves_is_refused(kept, missing):
    figures = FIGURES | {"histories": missing}
    with pytest.raises(ValueError, match="needs the figure histories"):
        proofs.record("simulation", command="make sim", figures=figures, **kept)
    with pytest.raises(ValueError, match="no proof is called simulations"):
        proofs.record("simulations", command="make sim", figures=FIGURES, **kept)
    assert not kept["folder"].exists()
    assert kept["page"].read_text() == PAGE


def test_a_page_without_a_place_for_it_is_not_touched(kept):
    kept["page"].write_text("# Something else\n")
    with pytest.raises(ValueError, match="no section Machine"):
        proofs.refresh(**kept)
    assert kept["page"].read_text() == "# Something else\n"


def test_a_readme_without_a_place_for_it_is_not_touched_nor_is_the_page(kept):
    kept["readme"].write_text("Read me.\n")
    with pytest.raises(ValueError, match="no place for proofs"):
        proofs.refresh(**kept)
    assert (kept["readme"].read_text(), kept["page"].read_text()) == ("Read me.\n", PAGE)


def test_the_page_and_the_readme_show_what_is_kept(capsys):
    assert proofs.section() in proofs.PAGE.read_text(), "python -m benchmarks --page puts it there"
    assert proofs.table() in proofs.README.read_text(), "python -m benchmarks --page puts it there"
    assert main(["--page"]) == 0
    assert "docs/performance.md" in capsys.readouterr().out


def test_every_proof_says_what_it_promises():
    for proof in proofs.PROOFS:
        assert proof.targets
        assert len(proof.text) > 50
