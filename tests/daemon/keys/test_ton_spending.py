"""The way to spend from the wallets of invoices that docs/chains.md shows, run on a real TVM."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.daemon.keys import ton_samples as samples
from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime

PAGE = (Path(__file__).parents[3] / "docs/chains.md").read_text(encoding="utf-8")
[SNIPPET] = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
TRY = """
const { Blockchain } = require("@ton/sandbox");
const { toNano } = require("@ton/core");
const { keyPairFromSeed } = require("@ton/crypto");

async function main({ seed, network, numbers }) {
  const keys = keyPairFromSeed(Buffer.from(seed, "hex"));
  const chain = await Blockchain.create();
  const customer = await chain.treasury("customer");
  const shop = await chain.treasury("shop");
  const found = [];
  for (const version of ["v4r2", "v5r1"]) {
    for (const n of numbers) {
      const wallet = walletOf(keys.publicKey, n, version, network);
      await customer.send({ to: wallet.address, value: toNano("2"), bounce: false });
      const before = await shop.getBalance();
      await sweep({ open: (contract) => chain.openContract(contract) }, keys, wallet, shop.address);
      const gained = (await shop.getBalance()) - before;
      const left = (await chain.getContract(wallet.address)).balance;
      found.push({ version, n, raw: wallet.address.toRawString(),
                   gained: Number(gained), left: Number(left) });
    }
  }
  process.stdout.write(JSON.stringify(found));
}
main(JSON.parse(process.argv[2]));
"""


@pytest.mark.parametrize(("network", "global_id"), [("mainnet", -239), ("testnet", -3)])
def test_what_invoices_got_can_be_swept(tmp_path, network, global_id):
    library, runtime = find("ton"), find_runtime(DEFAULT_DEST)
    if library is None or runtime is None:
        pytest.skip(how_to_install("ton"))
    script = tmp_path / "sweep.js"
    script.write_text(SNIPPET + TRY)
    numbers = [1, 127, 32768]
    wanted = {"seed": samples.SEED.hex(), "network": global_id, "numbers": numbers}
    done = subprocess.run(
        [runtime.node, script, json.dumps(wanted)],
        env={**runtime.environment(), "NODE_PATH": str(library / "node_modules")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    swept = json.loads(done.stdout)
    assert len(swept) == 2 * len(numbers)
    for one in swept:
        row = samples.row_of(one["version"], network, one["n"])
        assert one["raw"] == row["raw"], "tallyd and the page make different wallets"
        assert 1_980_000_000 < one["gained"] <= 2_000_000_000
        assert one["left"] == 0
