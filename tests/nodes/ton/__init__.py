"""The TON test peer: a JavaScript server on @ton/sandbox, and the contracts that it runs.

contracts.json holds compiled contracts: published jettons (LICENSES.txt says whose), and those of
the FunC sources here, which only those who change them have to compile:

    python -m tests.nodes.install ton && python -m tests.nodes.ton --write
"""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime

FOLDER = Path(__file__).parent
SERVER = FOLDER / "server.js"
CONTRACTS = FOLDER / "contracts.json"


class CompilerError(Exception):
    """The compiler is missing or refused the sources; the message is for a person."""


def source_digest() -> str:
    """Return a digest of the FunC sources."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.fc")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compile_all() -> dict[str, Any]:
    """Compile every source; returns what contracts.json holds. Raises CompilerError."""
    library, runtime = find("ton"), find_runtime(DEFAULT_DEST)
    if library is None or runtime is None:
        raise CompilerError(how_to_install("ton"))
    done = subprocess.run(
        [runtime.node, FOLDER / "compile.js"],
        env={**runtime.environment(), "NODE_PATH": str(library / "node_modules")},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise CompilerError(f"the compiler refused the sources: {done.stderr.strip()[-1500:]}")
    committed = json.loads(CONTRACTS.read_text())
    return {
        **committed,
        "sources": source_digest(),
        "codes": {**committed["codes"], **json.loads(done.stdout)},
    }
