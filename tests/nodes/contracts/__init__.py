"""The contracts that tests deploy: small Solidity sources, and what the compiler makes of them.

The compiled form is committed (compiled.json), so that only those who change a contract need the
compiler:

    python -m tests.nodes.install solc && python -m tests.nodes.contracts --write
"""

import functools
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime

FOLDER = Path(__file__).parent
COMPILED = FOLDER / "compiled.json"
_EVM_VERSION = "shanghai"  # older than what any chain of interest runs


class CompilerError(Exception):
    """The compiler is missing or refused the sources; the message is for a person."""


@dataclass(frozen=True)
class Contract:
    """A compiled contract."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    selectors: dict[str, str]
    """Signature → the 4 bytes that call it, in hex: `transfer(address,uint256)` → `a9059cbb`."""


@functools.cache
def contract(name: str) -> Contract:
    """Return one of the committed contracts by its name in Solidity."""
    found = json.loads(COMPILED.read_text())["contracts"][name]
    return Contract(name, found["abi"], bytes.fromhex(found["bytecode"]), found["selectors"])


def source_digest() -> str:
    """Return a digest of the sources and of how they are compiled."""
    digest = hashlib.sha256(_EVM_VERSION.encode())
    for path in sorted(FOLDER.glob("*.sol")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compile_all() -> dict[str, Any]:
    """Compile every source; returns what compiled.json holds. Raises CompilerError."""
    solc = find("solc")
    runtime = find_runtime(DEFAULT_DEST)
    if solc is None or runtime is None:
        raise CompilerError(how_to_install("solc"))
    outputs = ["abi", "evm.bytecode.object", "evm.methodIdentifiers"]
    request = {
        "language": "Solidity",
        "sources": {path.name: {"content": path.read_text()} for path in FOLDER.glob("*.sol")},
        "settings": {
            "optimizer": {"enabled": True, "runs": 200},
            "evmVersion": _EVM_VERSION,
            # Without the hash of the metadata at its end, so that a comment changes no bytecode.
            "metadata": {"bytecodeHash": "none", "appendCBOR": False},
            "outputSelection": {"*": {"*": outputs}},
        },
    }
    script = """
const solc = require('solc');
const request = require('fs').readFileSync(0, 'utf8');
const answer = JSON.parse(solc.compile(request));
console.log(JSON.stringify({version: solc.version(), answer}));
"""
    done = subprocess.run(
        [runtime.node, "-e", script], cwd=solc, input=json.dumps(request), capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise CompilerError(f"the compiler did not run: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout)
    faults = [fault for fault in told["answer"].get("errors", []) if fault["severity"] == "error"]
    if faults:
        raise CompilerError("\n".join(fault["formattedMessage"] for fault in faults))
    return {
        "compiler": told["version"],
        "sources": source_digest(),
        "contracts": {
            name: {
                "abi": made["abi"],
                "selectors": made["evm"]["methodIdentifiers"],
                "bytecode": made["evm"]["bytecode"]["object"],
            }
            for file in sorted(told["answer"]["contracts"])
            for name, made in sorted(told["answer"]["contracts"][file].items())
            if made["evm"]["bytecode"]["object"]  # not interfaces and abstract contracts
        },
    }
