# ruff: noqa: INP001 -- a script beside its output, no package
"""Make `native.json`: packets of version 1, built from docs/spec/packet.md alone.

This is a second implementation, of the sender's side only, in Python with the package
`cryptography`. It shares nothing with the Rust code, so that agreement between the two shows that
the specification is complete. Run `python native.py > native.json`.
"""

import hashlib
import hmac
import json
import sys
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BLOCK, BETA, DELTA, USER_PAYLOAD = 49, 343, 2082, 2048
BASE = (9).to_bytes(32, "little")


def xor(a: bytes, b: bytes) -> bytes:
    """XOR two strings of one length."""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def x25519(scalar: bytes, u: bytes) -> bytes:
    """Multiply as RFC 7748 does."""
    return X25519PrivateKey.from_private_bytes(scalar).exchange(
        X25519PublicKey.from_public_bytes(u)
    )


def stream(key: bytes, length: int) -> bytes:
    """Give the start of CTR(key)."""
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(length))


def aes(key: bytes, block: bytes) -> bytes:
    """Encipher whole blocks, each on its own."""
    cipher = Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305 -- the primitive of HCTR2
    return cipher.encryptor().update(block)


def polyval(key: int, blocks: bytes) -> int:
    """Hash as RFC 8452 does; bit i of an integer is the coefficient of x^i."""
    polynomial = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1
    state = 0
    for at in range(0, len(blocks), 16):
        state ^= int.from_bytes(blocks[at : at + 16], "little")
        product = 0
        for bit in range(128):
            if state >> bit & 1:
                product ^= key << bit
        for _ in range(128):
            if product & 1:
                product ^= polynomial
            product >>= 1
        state = product
    return state


def hctr2_encrypt(key: bytes, message: bytes) -> bytes:
    """Encipher with HCTR2-AES-256 and an empty tweak."""
    hash_key = int.from_bytes(aes(key, bytes(16)), "little")
    whitening = int.from_bytes(aes(key, (1).to_bytes(16, "little")), "little")

    def digest(rest: bytes) -> int:
        whole = len(rest) % 16 == 0
        padded = rest if whole else rest + b"\x01" + bytes(-(len(rest) + 1) % 16)
        return polyval(hash_key, (2 if whole else 3).to_bytes(16, "little") + padded)

    first, rest = int.from_bytes(message[:16], "little"), message[16:]
    mm = first ^ digest(rest)
    uu = int.from_bytes(aes(key, mm.to_bytes(16, "little")), "little")
    start = mm ^ uu ^ whitening
    count = -(-len(rest) // 16)
    counters = b"".join((start ^ i).to_bytes(16, "little") for i in range(1, count + 1))
    rest = xor(rest, aes(key, counters)[: len(rest)])
    return (uu ^ digest(rest)).to_bytes(16, "little") + rest


class Random:
    """A reproducible source of bytes."""

    def __init__(self, seed: str) -> None:
        self._bytes = hashlib.shake_256(seed.encode()).digest(8192)
        self._at = 0

    def draw(self, length: int) -> bytes:
        """Give the next bytes."""
        self._at += length
        return self._bytes[self._at - length : self._at]


@dataclass(frozen=True, slots=True)
class Hop:
    """What the sender knows of one hop."""

    alpha: bytes
    mac: bytes
    stream: bytes
    payload: bytes
    replay_tag: bytes
    delay: bytes


def agree(ephemeral: bytes, keys: list[bytes]) -> list[Hop]:
    """Derive the values of every hop, multiplying one factor after the other."""
    hops: list[Hop] = []
    factors = [ephemeral]
    alpha = x25519(ephemeral, BASE)
    for key in keys:
        secret = key
        for factor in factors:
            secret = x25519(factor, secret)

        def derive(label: bytes, length: int, secret: bytes = secret) -> bytes:
            return HKDF(SHA256(), length, b"betanet-sphinx/native/1", label).derive(secret)

        hops.append(
            Hop(
                alpha=alpha,
                mac=derive(b"header-mac", 32),
                stream=derive(b"header-stream", 32),
                payload=derive(b"payload", 32),
                replay_tag=derive(b"replay-tag", 16),
                delay=derive(b"delay", 16),
            )
        )
        factors.append(derive(b"blinding", 32))
        alpha = x25519(factors[-1], alpha)
    return hops


def header(hops: list[Hop], ids: list[bytes], parity: int, last: bytes, fill: bytes) -> list[bytes]:
    """Build the headers as each hop receives them, first hop first."""
    prefix = bytes([1, parity])
    filler = b""
    for i, hop in enumerate(hops[:-1]):
        filler = xor(filler + bytes(BLOCK), stream(hop.stream, BETA + BLOCK)[BETA - BLOCK * i :])
    own = last + fill
    beta = xor(own, stream(hops[-1].stream, len(own))) + filler
    headers: list[bytes] = []
    for i in reversed(range(len(hops))):
        covered = prefix + hops[i].alpha + beta
        gamma = hmac.new(hops[i].mac, covered, hashlib.sha256).digest()[:16]
        headers.insert(0, prefix + hops[i].alpha + gamma + beta)
        if i > 0:
            block = b"\x00" + ids[i] + gamma
            beta = xor(block + beta[: BETA - BLOCK], stream(hops[i - 1].stream, BETA))
    return headers


def plaintext(mailbox: bytes, payload: bytes) -> bytes:
    """Lay a payload out as in section 2."""
    padding = bytes(USER_PAYLOAD - len(payload))
    return bytes(16) + mailbox + len(payload).to_bytes(2, "big") + payload + padding


def case(kind: str, count: int, length: int) -> dict[str, object]:
    """Build one packet and say what each hop must make of it."""
    random = Random(f"{kind} {count} {length}")
    parity = count % 2
    secrets = [random.draw(32) for _ in range(count)]
    ids = [random.draw(32) for _ in range(count)]
    mailbox, surb_id, reply_key = random.draw(16), random.draw(16), random.draw(32)
    payload = random.draw(length)
    hops = agree(random.draw(32), [x25519(secret, BASE) for secret in secrets])
    last = b"\x01" + random.draw(48)
    if kind == "reply":
        last = b"\x02" + mailbox + surb_id + random.draw(16)
    headers = header(hops, ids, parity, last, random.draw(BETA - BLOCK * count))
    if kind == "forward":
        # The layers from inside out: what each hop leaves of delta, the last hop first.
        deltas = [plaintext(mailbox, payload)]
        for hop in reversed(hops):
            deltas.insert(0, hctr2_encrypt(hop.payload, deltas[0]))
        packets = [head + delta for head, delta in zip(headers, deltas, strict=False)]
    else:
        packets = [headers[0] + hctr2_encrypt(reply_key, plaintext(bytes(16), payload))]
    return {
        "kind": kind,
        "parity": parity,
        "secrets": [secret.hex() for secret in secrets],
        "node_ids": [node.hex() for node in ids],
        "replay_tags": [hop.replay_tag.hex() for hop in hops],
        "delay_inputs": [hop.delay.hex() for hop in hops],
        "payload_keys": [hop.payload.hex() for hop in hops],
        "reply_key": reply_key.hex(),
        "mailbox": mailbox.hex(),
        "surb_id": surb_id.hex(),
        "payload": payload.hex(),
        "headers": [head.hex() for head in headers],
        "packet": packets[0].hex(),
        "packet_sha256": [hashlib.sha256(packet).hexdigest() for packet in packets],
    }


def main() -> None:
    """Print all cases."""
    shapes = [(1, 0), (2, 300), (3, USER_PAYLOAD), (7, 41)]
    cases = [case(kind, *shape) for kind in ("forward", "reply") for shape in shapes]
    json.dump(cases, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
