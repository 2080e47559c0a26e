"""The official JavaScript client, installed once into ``.cache/npm``."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "npm"
PACKAGES = {"@grpc/grpc-js": "1.14.7", "@grpc/proto-loader": "0.8.1"}
PROTO = REPOSITORY / "proto" / "goipay"


def require_grpc_js() -> None:
    """Install the client if it is not there yet; skip the test when that is impossible."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the grpc-js client cannot be tested")
    if all(_installed(name) == version for name, version in PACKAGES.items()):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
    run = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=CACHE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if run.returncode:
        pytest.skip(f"npm cannot install {', '.join(PACKAGES)}: {run.stderr[-300:]}")


def run_node(script: str, *arguments: str) -> list:
    """Run a script that prints one JSON array; ``grpc``, ``load`` and ``port`` are at hand."""
    head = """
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const load = file => grpc.loadPackageDefinition(loader.loadSync(file, {
  includeDirs: [process.argv[1]], keepCase: true, longs: String, enums: String, defaults: true}));
const address = process.argv[2];
const out = [];
process.on('exit', () => console.log(JSON.stringify(out)));
"""
    run = subprocess.run(
        ["node", "-e", head + script, "--", str(PROTO), *arguments],
        cwd=CACHE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def _installed(name: str) -> str | None:
    manifest = CACHE / "node_modules" / name / "package.json"
    return json.loads(manifest.read_text())["version"] if manifest.exists() else None
