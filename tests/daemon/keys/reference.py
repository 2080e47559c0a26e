"""BIP-32, base58check, bech32 and EIP-55 by hand: slow, plain, and sharing no code with the daemon.

Only integers and hashlib (Keccak from pycryptodome, which hashlib lacks).
"""

import hashlib
import hmac

from Crypto.Hash import RIPEMD160, keccak

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def add(a, b):
    if a is None:
        return b
    if b is None:
        return a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(point, factor):
    total = None
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def compress(point):
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")


def decompress(data):
    x = int.from_bytes(data[1:], "big")
    y = pow(x**3 + 7, (P + 1) // 4, P)
    assert (y * y - x**3 - 7) % P == 0
    return x, y if y & 1 == data[0] & 1 else P - y


def base58check_encode(payload):
    data = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def base58_decode(text):
    """An extended key's 78 bytes; the checksum is not looked at."""
    number = 0
    for char in text:
        number = number * 58 + BASE58.index(char)
    return number.to_bytes(82, "big")[:78]


def hash160(data):
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


def child(point, chain_code, index):
    """CKDpub."""
    data = compress(point) + index.to_bytes(4, "big")
    digest = hmac.new(chain_code, data, hashlib.sha512).digest()
    return add(multiply(G, int.from_bytes(digest[:32], "big")), point), digest[32:]


def public_key(extended, path):
    """The point at `path` (unhardened indices) below an extended public key."""
    payload = base58_decode(extended)
    point, chain_code = decompress(payload[45:]), payload[13:45]
    for index in path:
        point, chain_code = child(point, chain_code, index)
    return point


def polymod(values):
    chk = 1
    for value in values:
        top = chk >> 25
        chk = (chk & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            chk ^= generator if (top >> i) & 1 else 0
    return chk


def p2wpkh_address(hrp, key_hash):
    bits = "".join(f"{byte:08b}" for byte in key_hash)
    data = [0] + [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    checksum = polymod(expanded + data + [0] * 6) ^ 1
    data += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    return hrp + "1" + "".join(BECH32[d] for d in data)


def evm_address(point):
    raw = point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
    address = keccak.new(digest_bits=256, data=raw).digest()[12:]
    marks = keccak.new(digest_bits=256, data=address.hex().encode()).hexdigest()
    return "0x" + "".join(
        c.upper() if int(m, 16) > 7 else c for c, m in zip(address.hex(), marks[:40], strict=True)
    )
