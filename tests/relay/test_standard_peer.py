"""Debian's wireguard-go, which knows of no relay, reaches our engine through one: `Endpoint` is
the relay, and that is all it is told."""

from __future__ import annotations

import select
import socket
import subprocess
from pathlib import Path

import pytest

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.protocols.wireguard.engine import Engine
from lanrage.tunnel.dataplane import new_engine
from lanrage.tunnel.loop import now_ns
from tests.relay.members import bind, seed
from tests.relay.process import Relay, udp
from tests.tunnel.pair import REKEY_AFTER_NS, WITHIN_S, Pair

PORT = 3478
ECHO_REQUEST, ICMP_AT = 8, 20


def echo(packet: bytes) -> bytes | None:
    """The answer of the computer with the address that was pinged."""
    if packet[9] != 1 or packet[ICMP_AT] != ECHO_REQUEST:
        return None
    old = int.from_bytes(packet[ICMP_AT + 2 : ICMP_AT + 4], "big")
    total = old + (ECHO_REQUEST << 8)  # one's complement: the type falls by eight
    checksum = (total & 0xFFFF) + (total >> 16)
    answer = b"\0\0" + checksum.to_bytes(2, "big") + packet[ICMP_AT + 4 :]
    return packet[:12] + packet[16:20] + packet[12:16] + answer


@pytest.mark.root
def test_a_standard_peer_plays_with_a_member_through_the_relay(tmp_path: Path) -> None:
    with Pair(tmp_path) as pair:
        phone, there = pair.a, pair.b
        there.private, there.port = seed(1), PORT
        with (
            Relay(there.outside, command=there.command, port=PORT) as relay,
            there.entered(),
            udp(there.outside) as member,
            udp() as over_tcp,
        ):
            # The TCP front is on loopback, also where the relay has one address alone.
            bind(over_tcp, ("127.0.0.1", PORT), 2)
            bind(member, relay.address, 1)  # before: what it sends in vain it sends again in 5 s
            pair.start_theirs(phone, pair.config(phone))
            member.settimeout(WITHIN_S)
            engine = new_engine(seed(1), roaming=True, rekey_after_ns=REKEY_AFTER_NS)
            engine.put_peer(phone.public, allowed=[f"{phone.inside}/32"])
            pinging = pair.start(
                phone, *f"ping -q -c 5 -i 0.05 {there.inside}".split(), stdout=subprocess.PIPE
            )
            numbers = set()
            while pinging.poll() is None:
                if select.select([member], [], [], 0.05)[0]:
                    numbers.add(answer(engine, member, relay.address))
            said, _ = pinging.communicate(timeout=WITHIN_S)
        assert "5 received" in said, said
        assert numbers == {wire.number(wire.GUEST_MIN, 1)}


def answer(engine: Engine, member: socket.socket, relay: Address) -> int:
    """Take one datagram and send what it leads to; the number it had."""
    datagram = member.recv(2048)
    number = wire.number_of(datagram)
    guest, receiver = wire.ends(number)
    assert receiver == 1
    got = engine.receive([wire.unstamp(datagram)], relay, now_ns())
    out = [each for _, each in engine.take_outgoing()]
    for peer, packets in got:
        answers = [each for each in map(echo, packets) if each is not None]
        out += engine.seal(peer, answers, now_ns())
    for each in out:
        member.sendto(wire.stamp(each, wire.number(1, guest)), relay)
    return number
