"""Keys of the public test vectors, and chains to try them on."""

from actors.core.assets import Chain

BTC = Chain("btc", "Bitcoin", "bitcoin", "BTC", 600.0, 2)
LTC = Chain("ltc", "Litecoin", "bitcoin", "LTC", 150.0, 6)
ETH = Chain("eth", "Ethereum", "evm", "ETH", 12.0, 12)
BNB = Chain("bnb", "BNB Smart Chain", "evm", "BNB", 3.0, 15)
XMR = Chain("xmr", "Monero", "monero", "XMR", 120.0, 10)
TON = Chain("ton", "TON", "ton", "TON", 3.0, 1)

# BIP-84, SLIP-132: the accounts 0 of the mnemonic "abandon ... about".
MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
ZPUB = (
    "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf"
    "31mGDtKsAYz2oz2AGutZYs"
)
ZPRV = (
    "zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9ief"
    "m1yYNZKEm7z6qUWCroSQnE"
)
YPUB = (
    "ypub6Ww3ibxVfGzLrAH1PNcjyAWenMTbbAosGNB6VvmSEgytSER9azLDWCxoJwW7Ke7icmizBMXrzBx9979FfaHxH"
    "crArf3zbeJJJUZPf663zsP"
)
XPUB = (
    "xpub6BosfCnifzxcFwrSzQiqu2DBVTshkCXacvNsWGYJVVhhawA7d4R5WSWGFNbi8Aw6ZRc1brxMyWMzG3DSSSSoe"
    "kkudhUd9yLb6qx39T9nMdj"
)
WIF = "KyZpNDKnfs94vbrwhJneDi77V6jF64PWPF8x5cdJb8ifgg2DUc9d"

# GoiPay's own check vectors.
GOIPAY_BTC = (
    "tpubDCUURn3yPT4P3SkrUq9rG1RyJK6BGhmrovvSAF61LHLCZhNUMRw7FANPmhGuDWXo3GMkc6C4ZFGBuPMrovjdn"
    "XhtJfQE3uK3s6QzFuiQaz9"
)
GOIPAY_EVM = (
    "xpub6CUf84eg4Ba1jJ3ePzLSSoeQ1ENzP33zCN4982Xoi1TZ1kfYreZe5ECqLm4RVWQHpuB5gixi3gK1PykXzcwWx"
    "W7w6d7GWxpsNY7wxNVBHip"
)
GOIPAY_LTC = (
    "zpub6o5L7tQbC4zavTL1Lzq1eg5qev4WQMXNWMGoruoHSX8YRss8V4U1k4UUae8abXpVxNh9eBHTLBGBjvuCSRtfV"
    "tAmf4LRBtsNxQX4gpj56Dc"
)
