"""The official JavaScript client follows the status stream of a real payment."""

import base64

import pytest

from tests.helpers.grpc_node import require_grpc_js, run_node
from tests.helpers.shop import new_key

AMOUNT = 0.00123456
SCRIPT = """
const {UserService} = load('user/v1/user.proto').user.v1;
const {InvoiceService} = load('invoice/v1/invoice.proto').invoice.v1;
const [key, rpc, auth] = process.argv.slice(3);
const users = new UserService(address, grpc.credentials.createInsecure());
const invoices = new InvoiceService(address, grpc.credentials.createInsecure());
const unary = (client, name, request) => new Promise((yes, no) =>
  client[name](request, (error, answer) => error ? no(error) : yes(answer)));
const node = async (method, ...params) => {
  const answer = await fetch(rpc, {method: 'POST', headers: {authorization: auth},
    body: JSON.stringify({method, params})});
  const {result, error} = await answer.json();
  if (error) throw new Error(error.message);
  return result;
};
(async () => {
  const {userId} = await unary(users, 'RegisterUser', {});
  await unary(users, 'UpdateCryptoKeys', {userId, btcReq: {masterPubKey: key}});
  const stream = invoices.InvoiceStatusStream({});
  await new Promise(yes => stream.once('metadata', yes));
  const request = {userId, coin: 'BTC', amount: AMOUNT, timeout: '60', confirmations: 1};
  let created;
  stream.on('error', error => { if (error.code !== grpc.status.CANCELLED) throw error; });
  stream.on('data', async ({invoice}) => {
    if (created === undefined || invoice.id !== (await created).paymentId) return;
    out.push([invoice.status, invoice.actualAmount, invoice.txId]);
    if (invoice.status === 'PENDING')
      await node('sendtoaddress', invoice.cryptoAddress, AMOUNT);
    else if (invoice.status === 'PENDING_MEMPOOL')
      await node('generatetoaddress', 1, await node('getnewaddress'));
    else { stream.cancel(); users.close(); invoices.close(); }
  });
  created = unary(invoices, 'CreateInvoice', request);
  const [found] = await unary(invoices, 'GetInvoices', {paymentIds: [(await created).paymentId]})
    .then(answer => answer.invoices);
  out.push(['asked', found.requiredAmount, found.cryptoAddress === (await created).address]);
  const refused = await unary(users, 'RegisterUser', {userId: 'x'}).catch(error => error);
  out.push(['refused', refused.code, refused.details]);
})();
"""


@pytest.fixture(scope="module", autouse=True)
def _grpc_js():
    require_grpc_js()


def test_a_payment_is_followed(daemons, btc_node):
    login = base64.b64encode(f"{btc_node.user}:{btc_node.password}".encode()).decode()
    out = run_node(
        SCRIPT.replace("AMOUNT", str(AMOUNT)),
        f"127.0.0.1:{daemons['postgres'].grpc_port}",
        new_key(),
        btc_node.url,
        f"Basic {login}",
    )
    told = [row for row in out if row[0] not in ("asked", "refused")]
    txid = told[-1][2]
    assert len(txid) == 64
    assert told == [
        ["PENDING", 0, ""],
        ["PENDING_MEMPOOL", AMOUNT, txid],
        ["CONFIRMED", AMOUNT, txid],
    ]
    assert ["asked", AMOUNT, True] in out
    assert ["refused", 3, "Invalid userId (invalid UUID)."] in out
