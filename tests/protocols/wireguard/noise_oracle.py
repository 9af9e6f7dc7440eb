"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s straight from the Noise specification, revision 34.

Slow, generic (prologue and payloads are free), and sharing no line with lanrage: proven by a public
vector, it then says what WireGuard's messages have to be.
"""

from hashlib import blake2s

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """RFC 2104 with BLAKE2s (64-byte blocks)."""
    key = key.ljust(64, b"\x00")
    inner = blake2s(bytes(b ^ 0x36 for b in key) + data).digest()
    return blake2s(bytes(b ^ 0x5C for b in key) + inner).digest()


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> list[bytes]:
    root, made = hmac_blake2s(chaining_key, material), [b""]
    for number in range(1, outputs + 1):
        made.append(hmac_blake2s(root, made[-1] + bytes([number])))
    return made[1:]


class Symmetric:
    def __init__(self, prologue: bytes) -> None:
        self.h = blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").digest()
        self.ck = self.h
        self.key = b""
        self.n = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.h = blake2s(self.h + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.ck, self.key = hkdf(self.ck, material, 2)
        self.n = 0

    def mix_key_and_hash(self, material: bytes) -> None:
        self.ck, extra, self.key = hkdf(self.ck, material, 3)
        self.n = 0
        self.mix_hash(extra)

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        nonce = bytes(4) + self.n.to_bytes(8, "little")
        self.n += 1
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce, plain, self.h)
        self.mix_hash(sealed)
        return sealed


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, public_key: bytes) -> bytes:
    point = X25519PublicKey.from_public_bytes(public_key)
    return X25519PrivateKey.from_private_bytes(private).exchange(point)


class IkPsk2:
    """Both sides at once, as someone who knows every private key."""

    def __init__(self, *, prologue: bytes, psk: bytes, statics: tuple[bytes, bytes]) -> None:
        self.symmetric = Symmetric(prologue)
        self.psk = psk
        self.initiator, self.responder = statics
        self.symmetric.mix_hash(public(self.responder))

    def first(self, ephemeral: bytes, payload: bytes) -> bytes:
        """-> e, es, s, ss"""
        state, self.ephemeral = self.symmetric, ephemeral
        e = public(ephemeral)
        state.mix_hash(e)
        state.mix_key(e)  # in psk handshakes, also after `e`
        state.mix_key(dh(ephemeral, public(self.responder)))
        sealed_static = state.encrypt_and_hash(public(self.initiator))
        state.mix_key(dh(self.initiator, public(self.responder)))
        return e + sealed_static + state.encrypt_and_hash(payload)

    def second(self, ephemeral: bytes, payload: bytes) -> bytes:
        """<- e, ee, se, psk"""
        state = self.symmetric
        e = public(ephemeral)
        state.mix_hash(e)
        state.mix_key(e)
        state.mix_key(dh(ephemeral, public(self.ephemeral)))
        state.mix_key(dh(ephemeral, public(self.initiator)))
        state.mix_key_and_hash(self.psk)
        return e + state.encrypt_and_hash(payload)

    def split(self) -> list[bytes]:
        """Keys: initiator to responder, responder to initiator."""
        return hkdf(self.symmetric.ck, b"", 2)
