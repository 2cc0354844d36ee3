"""A second implementation of a hop and of a reply's opener, written from docs/spec/packet.md alone.

It uses the package `cryptography` and the standard library, and shares nothing with the product.
Numbers in brackets are the specification's sections.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PACKET, BETA, BLOCK, USER_PAYLOAD = 2475, 343, 49, 2048
P = 2**255 - 19


class Dropped(Exception):
    """A packet was refused; the message is the reason [7]."""


@dataclass(frozen=True)
class Step:
    """What a hop does with a packet [7]."""

    kind: int
    node: bytes = b""
    mailbox: bytes = b""
    surb_id: bytes = b""
    payload: bytes = b""
    """The packet for the next hop, the user payload, or δ of a reply."""
    delay_input: bytes = b""
    replay_tag: bytes = b""


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def x25519(scalar: bytes, u: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(scalar)
    return key.exchange(X25519PublicKey.from_public_bytes(u))


def derive(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF(s, label, n) [1]."""
    return HKDF(SHA256(), length, b"betanet-sphinx/native/1", label).derive(secret)


def stream(key: bytes, length: int) -> bytes:
    """The first bytes of CTR(k) [1]."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def polyval(key: int, blocks: bytes) -> int:
    """POLYVAL of RFC 8452: bit i of an integer is the coefficient of x^i."""
    modulus = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1
    state = 0
    for at in range(0, len(blocks), 16):
        state ^= int.from_bytes(blocks[at : at + 16], "little")
        product = 0
        for bit in range(128):
            if state >> bit & 1:
                product ^= key << bit
        for _ in range(128):  # divide by x^128
            product = (product ^ modulus if product & 1 else product) >> 1
        state = product
    return state


def hctr2(key: bytes, message: bytes, *, encipher: bool) -> bytes:
    """E(k, x) and D(k, x) [1]: HCTR2-AES-256 with empty tweak, on one block and more."""
    cipher = Cipher(algorithms.AES256(key), modes.ECB())
    aes = cipher.encryptor().update

    def number(block: bytes) -> int:
        return int.from_bytes(block, "little")

    hash_key, whitening = number(aes(bytes(16))), number(aes((1).to_bytes(16, "little")))

    def digest(rest: bytes) -> int:
        whole = len(rest) % 16 == 0
        padded = rest if whole else rest + b"\x01" + bytes(-(len(rest) + 1) % 16)
        return polyval(hash_key, (2 if whole else 3).to_bytes(16, "little") + padded)

    first, rest = number(message[:16]), message[16:]
    before = first ^ digest(rest)
    block_cipher = aes if encipher else cipher.decryptor().update
    after = number(block_cipher(before.to_bytes(16, "little")))
    start = before ^ after ^ whitening
    count = -(-len(rest) // 16)
    counters = b"".join((start ^ i).to_bytes(16, "little") for i in range(1, count + 1))
    other = xor(rest, aes(counters)[: len(rest)])
    return (after ^ digest(other)).to_bytes(16, "little") + other


def plaintext(delta: bytes) -> tuple[bytes, bytes]:
    """Mailbox field and user payload of an opened δ [2, 7.10]."""
    length = int.from_bytes(delta[32:34])
    if any(delta[:16]) or length > USER_PAYLOAD or any(delta[34 + length :]):
        raise Dropped("bad_payload")
    return delta[16:32], delta[34 : 34 + length]


def shared_secret(secret: bytes, alpha: bytes) -> bytes:
    """Steps 3 and 4 [7]; the package refuses an all-zero result by itself."""
    if int.from_bytes(alpha, "little") >= P:
        raise Dropped("bad_alpha")
    try:
        return x25519(secret, alpha)
    except ValueError:
        raise Dropped("weak_secret") from None


def unwrap(secret: bytes, packet: bytes) -> Step:
    """A hop's work [7], but for looking replays up: the tag is handed out."""
    if len(packet) != PACKET:
        raise Dropped("wrong_length")
    version_parity, alpha, gamma = packet[:2], packet[2:34], packet[34:50]
    beta, delta = packet[50 : 50 + BETA], packet[50 + BETA :]
    if version_parity[0] != 1:
        raise Dropped("unknown_version")
    if version_parity[1] > 1:
        raise Dropped("bad_parity")
    s = shared_secret(secret, alpha)
    mac = hmac.digest(derive(s, b"header-mac", 32), version_parity + alpha + beta, hashlib.sha256)
    if not hmac.compare_digest(mac[:16], gamma):
        raise Dropped("bad_mac")
    opened = xor(beta + bytes(BLOCK), stream(derive(s, b"header-stream", 32), BETA + BLOCK))
    block, rest = opened[:BLOCK], opened[BLOCK:]
    if block[0] > 2:
        raise Dropped("bad_command")
    delta = hctr2(derive(s, b"payload", 32), delta, encipher=False)
    tags = {"delay_input": derive(s, b"delay", 16), "replay_tag": derive(s, b"replay-tag", 16)}
    if block[0] == 0:
        alpha = x25519(derive(s, b"blinding", 32), alpha)
        onward = version_parity + alpha + block[33:] + rest + delta
        return Step(0, node=block[1:33], payload=onward, **tags)
    if block[0] == 1:
        mailbox, payload = plaintext(delta)
        return Step(1, mailbox=mailbox, payload=payload, **tags)
    return Step(2, mailbox=block[1:17], surb_id=block[17:33], payload=delta, **tags)


def reply(surb: bytes, payload: bytes) -> bytes:
    """The packet that a SURB's holder sends [6]."""
    header, key = surb[32:425], surb[425:457]
    plain = bytes(32) + len(payload).to_bytes(2) + payload.ljust(USER_PAYLOAD, b"\0")
    return header + hctr2(key, plain, encipher=True)


def header_secrets(secrets: list[bytes], packet: bytes) -> list[bytes]:
    """The shared secret of each hop, from the nodes' secrets and a header."""
    found, alpha = [], packet[2:34]
    for secret in secrets:
        found.append(shared_secret(secret, alpha))
        alpha = x25519(derive(found[-1], b"blinding", 32), alpha)
    return found


def open_reply(reply_key: bytes, shared: list[bytes], delta: bytes) -> bytes:
    """What a SURB's maker does with δ as the last hop left it [6]."""
    for s in reversed(shared):
        delta = hctr2(derive(s, b"payload", 32), delta, encipher=True)
    mailbox, payload = plaintext(hctr2(reply_key, delta, encipher=False))
    if any(mailbox):
        raise Dropped("bad_payload")
    return payload
