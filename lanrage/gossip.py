"""Gossip between members inside their tunnels: the shell around `circle`. Runs in the node.

    gossip = Gossip(own_peer_id, deliver, records)
    gossip.follow(mesh)                after every change of the state; it is level-triggered, and
                                       calls these three:
      configure("10.66.0.1", "lanrage0")   where our interface is; "" for nowhere
      know(chain, control)                 our chain, and whether we are connected to control
      connected({peer: address})           members with a live tunnel: their virtual IPv4 addresses
    gossip.signal(peer, sealed)        a sealed signal, directly or (control away) through a third;
                                       False: no way
    gossip.control_elsewhere           a member says that it has control
    gossip.close()

`deliver` gets the notices that the control client has for the same: `Records` (verified; to be
accepted, and given to control by `ControlClient.adopt`), `Diverged` (`url` is the member), and
`SignalArrived`. `records(after)` reads ours from the log, as in `control.notices.Target`.

While control is away only an admin's kick may be appended, and only if `control_elsewhere` is
False: two records for one position would split the party. It is made like any other, accepted by
this node's rules, adopted by the control client, and travels by `know`.

The socket is bound to the address and to the interface, so what did not come through a tunnel never
reaches it, and a source address is as good as a signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from lanrage.circle import Asked, Circle
from lanrage.control.notices import Diverged, Records, SignalArrived
from lanrage.protocols.gossip import FRAME_MAX, PAGE, PORT
from lanrage.protocols.partylog import Chain
from projections.mesh import Mesh

REBIND_S: Final = 2.0  # after the address could not be bound
ANSWERS_MAX: Final = 16  # reads of the log at once
READ_MAX: Final = 32  # datagrams in one go

Notice: TypeAlias = Records | Diverged | SignalArrived


class Gossip:
    def __init__(
        self,
        own: str,
        deliver: Callable[[Notice], None],
        records: Callable[[int], Awaitable[Sequence[bytes]]],
        port: int = PORT,
    ) -> None:
        self._circle = Circle(own, secrets.token_bytes)
        self._deliver = deliver
        self._records = records
        self._port = port
        self._place: tuple[str, str] = ("", "")  # address, interface
        self._addresses: dict[str, str] = {}  # peer -> virtual address
        self._peers: dict[str, str] = {}  # and back
        self._socket: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None  # to bind
        self._timer: asyncio.TimerHandle | None = None
        self._party = ""
        self._read_after = 0  # of the party's records, the part that was read last
        self._read: Sequence[bytes] = ()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def control_elsewhere(self) -> bool:
        return self._circle.control_elsewhere

    @property
    def drops(self) -> Mapping[str, int]:
        return self._circle.drops

    def follow(self, mesh: Mesh) -> None:
        """Do what this state asks for. Nothing changes if it is called again with the same."""
        tunnel = mesh.tunnel
        here = mesh.party and tunnel.address
        self.configure(tunnel.address.partition("/")[0] if here else "", tunnel.interface)
        self.connected(
            {
                who: mesh.chain.members[who].address
                for who, peer in mesh.peers.items()
                if peer.established and who in mesh.chain.members
            }
        )
        self.know(mesh.chain, bool(mesh.control.connected))

    def configure(self, address: str, interface: str) -> None:
        """Speak from our own virtual address; empty: be silent."""
        if (address, interface) == self._place:
            return
        self._place = (address, interface)
        self._hang_up()
        if address:
            self._bind()

    def know(self, chain: Chain, control: bool) -> None:
        if chain.party != self._party:
            self._party, self._read_after, self._read = chain.party, 0, ()
        self._circle.know(chain, control, time.monotonic_ns())
        self._settle()

    def connected(self, addresses: Mapping[str, str]) -> None:
        self._addresses = dict(addresses)
        self._peers = {address: peer for peer, address in addresses.items()}
        if self._socket is not None:
            self._circle.connect(self._addresses, time.monotonic_ns())
            self._settle()

    def signal(self, peer: str, sealed: bytes) -> bool:
        sent = self._socket is not None and self._circle.signal(peer, sealed)
        self._settle()
        return sent

    def close(self) -> None:
        self._place = ("", "")
        self._hang_up()
        for task in self._answering:
            task.cancel()

    # --- the socket -----------------------------------------------------------------------------

    def _bind(self) -> None:
        """The interface may be down, or not there yet: then it is tried again."""
        self._again = None
        loop = asyncio.get_running_loop()
        try:
            self._socket = _opened(*self._place, self._port)
        except OSError:
            self._again = loop.call_later(REBIND_S, self._bind)
            return
        loop.add_reader(self._socket.fileno(), self._receive)
        self._circle.connect(self._addresses, time.monotonic_ns())
        self._settle()

    def _hang_up(self) -> None:
        for handle in (self._again, self._timer):
            if handle is not None:
                handle.cancel()
        self._again = self._timer = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = None
        self._circle.connect((), time.monotonic_ns())

    def _receive(self) -> None:
        assert self._socket is not None
        for _ in range(READ_MAX):
            try:
                datagram, source = self._socket.recvfrom(FRAME_MAX + 1)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error for something sent earlier
            peer = self._peers.get(source[0], "") if source[1] == self._port else ""
            self._circle.receive(peer, datagram, time.monotonic_ns())
        self._settle()

    def _settle(self) -> None:
        """Send, tell and plan what the rules say."""
        for peer, datagram in self._circle.take_outgoing():
            self._send(self._addresses.get(peer, ""), datagram)
        for notice in self._circle.take_notices():
            if isinstance(notice, Asked):
                self._answer(notice)
            else:
                self._deliver(notice)
        due_ns = self._circle.timer()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if due_ns is not None and self._socket is not None:
            wait_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._circle.handle_timer(time.monotonic_ns())
        self._settle()

    def _send(self, address: str, datagram: bytes) -> None:
        if self._socket is None or not address:
            return
        with contextlib.suppress(OSError):  # as good as lost; heads are told again
            self._socket.sendto(datagram, (address, self._port))

    def _answer(self, asked: Asked) -> None:
        if len(self._answering) >= ANSWERS_MAX:
            return  # it will ask again
        task = asyncio.create_task(self._give(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _give(self, asked: Asked) -> None:
        party, skip = self._party, asked.after - self._read_after
        if not 0 <= skip < len(self._read):
            records = await self._records(asked.after)
            if party != self._party:
                return
            self._read_after, self._read, skip = asked.after, records, 0
        self._circle.give(asked.peer, asked.after, self._read[skip : skip + PAGE])
        self._settle()


def _opened(address: str, interface: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened
