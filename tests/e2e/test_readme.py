"""What the README shows is run: its own programs against the real daemon and a paying customer."""

import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.bitcoind import COIN_BASE, BitcoinNode
from tests.helpers.daemon import ROOT, Daemon

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PRICE_BASE = round(0.015 * COIN_BASE)
ADDRESS = re.compile(r"pay to (\S+)")
ENDS_WITHIN_S = 60


def program(number: int, daemon: Daemon) -> list[str]:
    """The README's program, aimed at this test's daemon."""
    text = PROGRAMS[number].replace('"127.0.0.1", 3000', f'"127.0.0.1", {daemon.grpc_port}')
    return [sys.executable, "-u", "-c", text.replace("http://127.0.0.1:8080", daemon.url)]


def test_the_readmes_programs_do_what_it_says(tmp_path: Path, btc_node: BitcoinNode) -> None:
    with Daemon(tmp_path, nodes=(btc_node,)) as daemon:
        shown = []
        with subprocess.Popen(
            program(0, daemon), stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                shown.append(line.strip())
                if found := ADDRESS.match(line):
                    btc_node.pay(found[1], PRICE_BASE)
                elif line.startswith("PENDING_MEMPOOL"):
                    btc_node.mine()
            assert running.wait(ENDS_WITHIN_S) == 0
        address = next(filter(None, map(ADDRESS.match, shown)))[1]
        assert sorted(shown) == sorted(
            ["PENDING 0.0", f"pay to {address}", "PENDING_MEMPOOL 0.015", "CONFIRMED 0.015"]
        )
        assert address in README, "the README shows another address than its key gives"
        rest = subprocess.run(
            program(1, daemon),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            timeout=ENDS_WITHIN_S,
        )
        first, second = rest.stdout.splitlines()
        assert first == "CONFIRMED 0.015 of 0.015 BTC"
        assert re.fullmatch(r"[0-9a-f]{64}:\d+ 0\.015 1", second)
