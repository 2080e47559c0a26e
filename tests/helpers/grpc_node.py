"""The official JavaScript client, run by Node.js."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime

PROTO = Path(__file__).resolve().parents[2] / "proto"


def require_grpc_js() -> None:
    """Skip the test where the client is not installed."""
    if find("grpc-js") is None:
        pytest.skip(how_to_install("grpc-js"))


def run_node(script: str, *arguments: str, root: str = "goipay") -> list:
    """Run a script that prints one JSON array; ``grpc``, ``load`` and ``address`` are at hand.

    ``root`` is the folder below ``proto/`` that the .proto files are named from.
    """
    head = """
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const load = file => grpc.loadPackageDefinition(loader.loadSync(file, {
  includeDirs: [process.argv[1]], keepCase: true, longs: String, enums: String, defaults: true}));
const address = process.argv[2];
const out = [];
process.on('exit', () => console.log(JSON.stringify(out)));
"""
    runtime = find_runtime(DEFAULT_DEST)
    assert runtime is not None
    run = subprocess.run(
        [runtime.node, "-e", head + script, "--", str(PROTO / root), *arguments],
        cwd=find("grpc-js"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
