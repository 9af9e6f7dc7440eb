"""A party's tunnel on its own: what the node's orders leave behind in it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols.endpoint import Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel import udp
from lanrage.tunnel.dataplane import new_engine
from lanrage.tunnel.interface import Interface
from lanrage.tunnel.loop import now_ns
from lanrage.tunnel.messages import (
    AnyNotice,
    Counters,
    DropPeer,
    Expired,
    Opened,
    PutPeer,
    Switched,
)
from lanrage.tunnel.party import COUNTERS_SPACING_NS, PartyTunnel
from lanrage.tunnel.udp import UdpPort
from tests.tunnel.packets import MAC


def public(number: int) -> bytes:
    return X25519PrivateKey.from_private_bytes(bytes([number]) * 32).public_key().public_bytes_raw()


def put(peer: str, number: int, address: str) -> PutPeer:
    return PutPeer(peer=peer, public_key=public(number), allowed=(address,), keepalive_s=0)


class Told:
    """A tunnel with a socketpair for its interface, and all that it told the node."""

    def __init__(self) -> None:
        tap, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        port = udp.open_port(0)
        assert isinstance(port, UdpPort), port
        interface = Interface(tap.detach(), "lo", MAC, joins_udp=True)
        self.notices: list[AnyNotice] = []
        self._now_ns = now_ns()
        self.tunnel = PartyTunnel(bytes([1]) * 32, interface, port, self.notices.append)

    def close(self) -> None:
        self.tunnel.close()
        self._kernel.close()

    def peers(self) -> list[str]:
        """Of the next counters."""
        self._now_ns += 2 * COUNTERS_SPACING_NS
        self.tunnel.handle_timer(self._now_ns)
        counters = [each for each in self.notices if isinstance(each, Counters)]
        return [each.peer for each in counters[-1].peers]


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.close()


def test_a_member_with_a_new_key_leaves_nothing_of_the_old_one(told: Told) -> None:
    told.tunnel.obey(put("bob", 2, "10.66.0.2/32"), now_ns())
    told.tunnel.obey(put("bob", 3, "10.66.0.2/32"), now_ns())
    told.tunnel.obey(put("carol", 2, "10.66.0.3/32"), now_ns())  # the key is anybody's again
    assert told.peers() == ["bob", "carol"]
    assert not [each for each in told.notices if isinstance(each, Expired)]


def test_a_key_that_another_member_has_is_refused(told: Told) -> None:
    told.tunnel.obey(put("bob", 2, "10.66.0.2/32"), now_ns())
    told.tunnel.obey(put("carol", 2, "10.66.0.3/32"), now_ns())
    assert [each.peer for each in told.notices if isinstance(each, Expired)] == ["carol"]
    assert told.peers() == ["bob"]


def test_a_standard_wireguard_is_followed_to_where_its_packets_come_from(told: Told) -> None:
    phone = new_engine(bytes([9]) * 32, roaming=True)
    order = put("phone", 9, "10.66.0.9/32")
    told.tunnel.obey(msgspec.structs.replace(order, standard=True), now_ns())
    phone_side = phone.put_peer(public(1), allowed=["10.66.0.1/32"], endpoint=("192.0.2.1", 1))
    sources: list[Place] = [("127.0.0.1", 9), Via("relay", "127.0.0.1:3478", wire.number(1, 9))]
    for at, source in enumerate(sources, 1):
        now = now_ns() + at * 1_000_000_000
        phone.set_endpoint(phone_side, ("192.0.2.2", at), now)
        phone.seal(phone_side, [bytes(20)], now)
        initiation = phone.take_outgoing()[-1][1]
        told.tunnel.data.take([initiation], source, now)
    paths = [each for each in told.notices if isinstance(each, Opened | Switched)]
    assert [type(each) for each in paths] == [Opened, Switched]
    assert isinstance(paths[1], Switched)
    assert (paths[1].old.address, paths[1].new.kind) == ("127.0.0.1:9", "relay")
    told.tunnel.obey(order, now_ns())
    assert not told.tunnel._peers["phone"].roaming


def test_who_is_dropped_or_unknown_is_forgotten_without_a_word(told: Told) -> None:
    told.tunnel.obey(put("bob", 2, "10.66.0.2/32"), now_ns())
    assert told.peers() == ["bob"]
    for _ in range(2):
        told.tunnel.obey(DropPeer(peer="bob"), now_ns())
    told.tunnel.obey(put("carol", 3, "10.66.0.3/32"), now_ns())
    assert told.peers() == ["carol"]
    assert not [each for each in told.notices if isinstance(each, Expired)]
