"""The generated code is what the sources say, and imports from this repository."""

from pathlib import Path

import pytest

import daemon
import proto
import proto.goipay.invoice.v1
from proto import generate

REPOSITORY = Path(__file__).resolve().parents[2]


def test_names_that_other_projects_use_resolve_here():
    for module in (proto, daemon, proto.goipay.invoice.v1):
        assert Path(module.__file__).is_relative_to(REPOSITORY)


def test_generated_code_is_up_to_date():
    assert generate.main(["--check"]) == 0


def test_the_check_names_what_differs(tmp_path, monkeypatch, capsys):
    family = generate.FAMILIES[0]
    changed = family.sources()[0]
    fresh = tmp_path / "fresh"
    generate.generate(family, fresh)
    generated = fresh / changed.replace(Path(changed).name, "__init__.py")
    generated.write_text(generated.read_text() + "# changed\n")
    (fresh / "message_pool.py").unlink()
    (fresh / "extra.py").write_text("")
    lines = generate.difference(family, fresh)
    assert f"differs: proto/goipay/{generated.relative_to(fresh)}" in lines
    assert "missing: proto/goipay/extra.py" in lines


def test_code_without_a_source_is_stale(tmp_path):
    family = generate.FAMILIES[0]
    generate.generate(family, tmp_path)
    (tmp_path / "user/v1/__init__.py").unlink()
    assert generate.difference(family, tmp_path) == ["stale:   proto/goipay/user/v1/__init__.py"]


def test_a_broken_source_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "PROTO", tmp_path)
    (tmp_path / "broken" / "x").mkdir(parents=True)
    (tmp_path / "broken" / "x" / "x.proto").write_text('syntax = "proto3"; message {')
    with pytest.raises(SystemExit, match="protoc failed on proto/broken"):
        generate.generate(generate.Family("broken", ("x",)), tmp_path / "out")
