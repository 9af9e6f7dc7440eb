"""Gossip over real sockets, between addresses of loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import closing

from lanrage.control.notices import Records, SignalArrived
from lanrage.gossip import Gossip, Notice
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain
from tests.protocols import party as p
from tests.protocols.party import ADA, BOB

STORY = p.story()


def chain_of(records: Sequence[bytes]) -> Chain:
    chain = partylog.extend(partylog.EMPTY, records)
    assert isinstance(chain, Chain)
    return chain


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Member:
    def __init__(self, peer: str, records: Sequence[bytes], port: int) -> None:
        self.records = records
        self.heard: asyncio.Queue[Notice] = asyncio.Queue()
        self.gossip = Gossip(peer, self.heard.put_nowait, self._read, port)
        self.gossip.know(chain_of(records), False)

    async def _read(self, after: int) -> Sequence[bytes]:
        return self.records[after:]

    async def next(self) -> Notice:
        return await asyncio.wait_for(self.heard.get(), 10)


async def test_chains_and_signals_cross_the_tunnel() -> None:
    port = free_port()
    ada, bob = Member(ADA.peer, STORY, port), Member(BOB.peer, STORY[:2], port)
    with closing(ada.gossip), closing(bob.gossip):
        for member, own, other, address in (
            (ada, "127.0.0.21", BOB.peer, "127.0.0.22"),
            (bob, "127.0.0.22", ADA.peer, "127.0.0.21"),
        ):
            member.gossip.connected({other: address})
            member.gossip.configure(own, "lo")
        ada.gossip.know(chain_of(STORY), True)  # who was bound first spoke to nobody
        assert await bob.next() == Records(chain_of(STORY).party, 2, tuple(STORY[2:]))
        assert bob.gossip.control_elsewhere
        assert ada.gossip.signal(BOB.peer, b"sealed")
        assert await bob.next() == SignalArrived(ADA.peer, b"sealed")
        assert ada.heard.empty()


async def test_who_sends_from_elsewhere_is_not_heard() -> None:
    port = free_port()
    ada = Member(ADA.peer, STORY, port)
    with closing(ada.gossip), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        ada.gossip.connected({BOB.peer: "127.0.0.24"})
        ada.gossip.configure("127.0.0.23", "lo")
        stranger.bind(("127.0.0.24", 0))  # the right address, another program
        stranger.sendto(b"\xc1", ("127.0.0.23", port))
        async with asyncio.timeout(10):
            while not ada.gossip.drops:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert ada.gossip.drops == {"gossip_stranger": 1}


async def test_without_an_address_it_is_silent_and_says_so() -> None:
    ada = Member(ADA.peer, STORY, free_port())
    with closing(ada.gossip):
        ada.gossip.connected({BOB.peer: "127.0.0.26"})
        ada.gossip.configure("192.0.2.1", "lo")  # nobody's
        assert not ada.gossip.signal(BOB.peer, b"sealed")
        ada.gossip.configure("127.0.0.25", "lo")
        assert ada.gossip.signal(BOB.peer, b"sealed")
        ada.gossip.configure("", "")
        assert not ada.gossip.signal(BOB.peer, b"sealed")
