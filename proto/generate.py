"""Generate the Python code and the descriptor sets that lie beside the .proto sources.

``python -m proto.generate`` writes them; ``--check`` writes into a temporary folder instead and
exits with status 1 when the repository holds anything else.

A family is a set of .proto packages that share one message pool. Its generated code sits under
the family's own root, so that ``package invoice.v1`` becomes ``proto.goipay.invoice.v1`` and never
claims a top-level import name that another project owns.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROTO = Path(__file__).resolve().parent
DESCRIPTORS = "descriptors.binpb"


@dataclass(frozen=True, slots=True)
class Family:
    """Where the sources of one message pool lie, relative to ``proto/``."""

    root: str
    """Import root of the sources and of the generated code."""

    folders: tuple[str, ...]
    """Folders under the root that hold sources."""

    def sources(self) -> list[str]:
        """The .proto files, relative to the root, in a stable order."""
        base = PROTO / self.root
        return sorted(
            path.relative_to(base).as_posix()
            for folder in self.folders
            for path in (base / folder).rglob("*.proto")
        )


FAMILIES = (
    Family(root="goipay", folders=("crypto", "user", "invoice")),
    Family(root="standard", folders=("grpc", "google")),
    Family(root=".", folders=("tally", "payscrypt")),
)


def generate(family: Family, into: Path) -> None:
    """Run protoc for one family and put what it writes under ``into``.

    Raises SystemExit naming the missing tool or the failed run.
    """
    tools = importlib.util.find_spec("grpc_tools")
    plugin = Path(sys.executable).with_name("protoc-gen-python_betterproto2")
    if tools is None or tools.origin is None or not plugin.exists():
        raise SystemExit(
            "proto.generate needs grpcio-tools and betterproto2_compiler in this virtual"
            " environment: pip install -e '.[dev,test]'"
        )
    into.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{PROTO / family.root}",
        f"-I{Path(tools.origin).parent / '_proto'}",
        f"--plugin=protoc-gen-python_betterproto2={plugin}",
        f"--python_betterproto2_out={into}",
        "--python_betterproto2_opt=client_generation=async",
        "--python_betterproto2_opt=server_generation=async",
        f"--descriptor_set_out={into / DESCRIPTORS}",
        "--include_imports",
        *family.sources(),
    ]
    # The plugin formats with the `ruff` it finds on the path and with this repository's settings.
    path = os.pathsep.join((str(plugin.parent), os.environ.get("PATH", os.defpath)))
    run = subprocess.run(  # noqa: S603 - our own sources and our own tools
        command,
        cwd=PROTO.parent,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"protoc failed on proto/{family.root}:\n{run.stderr}")


def difference(family: Family, fresh: Path) -> list[str]:
    """What the repository must change to equal the fresh output, one line per file."""
    base = PROTO / family.root
    lines = []
    produced = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for name in sorted(produced):
        kept = base / name
        if not kept.exists():
            lines.append(f"missing: proto/{family.root}/{name}")
        elif kept.read_bytes() != (fresh / name).read_bytes():
            lines.append(f"differs: proto/{family.root}/{name}")
    lines.extend(
        f"stale:   proto/{family.root}/{path.relative_to(base)}"
        for folder in family.folders
        for path in sorted((base / folder).rglob("*.py"))
        if path.relative_to(base) not in produced
    )
    return lines


def _write(family: Family, fresh: Path) -> None:
    base = PROTO / family.root
    for path in fresh.rglob("*"):
        if path.is_file():
            target = base / path.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proto.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args(arguments).check
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            fresh = Path(folder) / family.root
            generate(family, fresh)
            if check:
                lines += difference(family, fresh)
            else:
                _write(family, fresh)
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - a command-line tool speaks through print
    if lines:
        print("run `python -m proto.generate` and commit the result", file=sys.stderr)  # noqa: T201 - as above
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
