"""Monero keys that the whole world knows, and an arithmetic of the curve by hand.

The wallet is that of monero's own tests (tests/functional_tests/wallet.py, "velvet lymph giddy …").
The arithmetic is RFC 8032, section 5.1.4, in affine coordinates: slow, and no code of ours.
"""

from Crypto.Hash import keccak

SPEND_PRIVATE = "148d78d2aba7dbca5cd8f6abcfb0b3c009ffbdbea1ff373d50ed94d78286640e"
VIEW = "49774391fa5e8d249fc2c5b45dadef13534bf2483dede880dac88f061e809100"
SPEND = "1b3bd040020d3712ab84992b773d0a965134eb2df0392fb84af95de8a17be2ab"
VIEW_PUBLIC = "231c9bf8341c6a870d92e3fb98063a90a355fb8dbf74a8561b9d7f9273247e99"
PRIMARY = (
    "42ey1afDFnn4886T7196doS9GPMzexD9gXpsZJDwVjeRVdFCSoHnv7KPbBeGpzJBzHRCAs9UxqeoyFQMYbqSWYTfJJ"
    "QAWDm"
)
ADDRESSES = {
    (0, 1): (
        "84QRUYawRNrU3NN1VpFRndSukeyEb3Xpv8qZjjsoJZnTYpDYceuUTpog13D7qPxpviS7J29bSgSkR11hFFoXWk2yNd"
        "sR9WF"
    ),
    (0, 2): (
        "85M4M1RVRcoEeC8sdSxN1ef6GhQYChSfKPWkB4FLKYJiSWuMXXT4Ewv8BHCRzSJB4ZYvXUcFxN4DPcVu6uwoPNRvQ1"
        "QwaXB"
    ),
    (0, 999): (
        "8BQKgTSSqJjP14AKnZUBwnXWj46MuNmLvHfPTpmry52DbfNjjHVvHUk4mczU8nj8yZ57zBhksTJ8kM5xKeJXw55kCM"
        "VqyG7"
    ),
    (1, 0): (
        "82pP87g1Vkd3LUMssBCumk3MfyEsFqLAaGDf6oxddu61EgSFzt8gCwUD4tr3kp9TUfdPs2CnpD7xLZzyC1Ei9UsW3o"
        "yCWDf"
    ),
    (1, 1): (
        "87qyoPVaEcWikVBmG1TaP1KumZ3hB3Q5f4wZRjuppNdwYjWzs2RgbLYQgtpdu2YdoTT3EZhiUGaPJQt2FsykeFZbCt"
        "aGXU4"
    ),
    (1, 2): (
        "87KfgTZ8ER5D3Frefqnrqif11TjVsTPaTcp37kqqKMrdDRUhpJRczeR7KiBmSHF32UJLP3HHhKUDmEQyJrv2mV8yFD"
        "Cq8eB"
    ),
    (2, 0): (
        "8Bdb75y2MhvbkvaBnG7vYP6DCNneLWcXqNmfPmyyDkavAUUgrHQEAhTNK3jEq69kGPDrd3i5inPivCwTvvA12eQ4SJ"
        "k9iyy"
    ),
}

# GoiPay's check vector, on stagenet.
GOIPAY_VIEW = "8aa763d1c8d9da4ca75cb6ca22a021b5cca376c1367be8d62bcc9cdf4b926009"
GOIPAY_SPEND = "38e9908d33d034de0ba1281aa7afe3907b795cea14852b3d8fe276e8931cb130"
GOIPAY_FIRST = (
    "74xhb5sXRsnDZv8RKFEv7LAMfUq5AmGEEB77SVvsUJf8bLvFMSEfc8YYyJHF6xNNnjAZQmgqZp76AjT8bD6qKkLZLe"
    "R42oi"
)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE_Y = 4 * pow(5, -1, P) % P

# Points of order 8 and its divisors, as in the tests of many implementations of the curve.
SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
)


def decompress(data):
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def compress(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(a, b):
    cross = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + cross, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, P)
    return x % P, y % P


def multiply(point, factor):
    total = (0, 1)
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


BASE = decompress(BASE_Y.to_bytes(32, "little"))


def hash_to_scalar(data):
    digest = keccak.new(digest_bits=256, data=data).digest()
    return int.from_bytes(digest, "little") % L


def subaddress(view, spend, major, minor):
    """(D, C) of the subaddress, by the book."""
    index = major.to_bytes(4, "little") + minor.to_bytes(4, "little")
    shift = hash_to_scalar(b"SubAddr\0" + view + index)
    point = add(decompress(spend), multiply(BASE, shift))
    return compress(point), compress(multiply(point, int.from_bytes(view, "little")))
