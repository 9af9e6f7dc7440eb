"""What one core does with WireGuard packets if nothing else costs: `bench/wireguard_core.py`.

Two engines back to back, 1,420-byte packets in batches of 44 (what one GSO super-packet carries).
The bare cipher calls are measured in the same run, so the difference is our own bookkeeping.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

if __name__ == "__main__":  # run as a file from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lanrage.protocols.wireguard.engine import Engine, Peer

BATCH_PACKETS = 44
PACKET_BYTES = 1420
BATCHES = 200
ROUNDS = 15

US_ADDRESS, THEM_ADDRESS = ("192.0.2.1", 51820), ("192.0.2.2", 51820)
US_INNER, THEM_INNER = bytes((10, 66, 0, 1)), bytes((10, 66, 0, 2))


def ipv4_packet(source: bytes, destination: bytes, size: int) -> bytes:
    header = b"\x45\x00" + size.to_bytes(2, "big") + bytes(8) + source + destination
    return header + os.urandom(size - len(header))


def pair() -> tuple[Engine, Peer, Engine]:
    """Two engines with a session between them."""
    us = Engine(os.urandom(32), random=os.urandom, wall_offset_ns=10**18, roaming=False)
    them = Engine(os.urandom(32), random=os.urandom, wall_offset_ns=10**18, roaming=False)
    peer = us.put_peer(them.public_key, allowed=["10.66.0.2/32"], keepalive_s=25)
    them.put_peer(us.public_key, allowed=["10.66.0.1/32"])
    us.set_endpoint(peer, THEM_ADDRESS, 0)
    for _ in range(2):
        them.receive([d for _, d in us.take_outgoing()], US_ADDRESS, 1)
        us.receive([d for _, d in them.take_outgoing()], THEM_ADDRESS, 1)
    assert peer.has_session
    return us, peer, them


def best_us(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Microseconds a packet of each call, one after another on one batch at a time, as in a tunnel.

    The best of the rounds counts: other processes only ever add.
    """
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        spent = [0.0] * len(calls)
        for _ in range(BATCHES):
            for number, call in enumerate(calls):
                began = time.perf_counter()
                call()
                spent[number] += time.perf_counter() - began
        best = [min(pair) for pair in zip(best, spent, strict=True)]
    return [seconds / (BATCHES * BATCH_PACKETS) * 1e6 for seconds in best]


def main() -> None:
    us, peer, them = pair()
    packets = [ipv4_packet(US_INNER, THEM_INNER, PACKET_BYTES) for _ in range(BATCH_PACKETS)]
    cipher, nonce = ChaCha20Poly1305(os.urandom(32)), bytes(12)
    encrypt, decrypt = cipher.encrypt, cipher.decrypt
    sealed = [encrypt(nonce, packet, None) for packet in packets]
    batch: list[bytes] = []

    def seal() -> None:
        batch[:] = us.seal(peer, packets, 1)

    def receive() -> None:
        ((_, opened),) = them.receive(batch, US_ADDRESS, 1)
        assert len(opened) == BATCH_PACKETS

    seal_us, encrypt_us, receive_us, decrypt_us = best_us(
        (
            seal,
            lambda: [encrypt(nonce, packet, None) for packet in packets],
            receive,
            lambda: [decrypt(nonce, packet, None) for packet in sealed],
        )
    )
    for name, cost, floor in (("seal", seal_us, encrypt_us), ("receive", receive_us, decrypt_us)):
        print(
            f"{name:8} {1e6 / cost:9,.0f} packets/s  {cost:.2f} us a packet,"
            f" cipher {floor:.2f}, ours {cost - floor:.2f}"
        )


if __name__ == "__main__":
    main()
