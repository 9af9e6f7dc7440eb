"""The tunnel process under a node: its life, and the socketpair to the node.

The end of the socketpair (the node is gone, however that came) is the end of this process, and
with it of the interface. Before `Start` nothing exists; after it the process is nobody and keeps
CAP_NET_ADMIN, to give the interface addresses, and nothing else.
"""

from __future__ import annotations

import gc
import socket
import sys
from typing import NoReturn
from urllib.parse import urlsplit

import msgspec

from lanrage.protocols import endpoint
from lanrage.refusal import Refusal
from lanrage.tunnel import interface, privileges, tcp, udp
from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.loop import Loop
from lanrage.tunnel.messages import (
    AnyNotice,
    AnyOrder,
    Counters,
    Failed,
    RelayGrant,
    Start,
    Started,
    Stop,
)
from lanrage.tunnel.party import PartyTunnel
from lanrage.tunnel.relays import Changed, Deliver

UNSENT_MAX = 4 << 20  # bytes of notices a node may leave unread before it counts as gone
GARBAGE_THRESHOLDS = (50_000, 20, 100)  # the hot path makes no cycles; nothing to hurry for


class Process:
    """The process's life. `run` returns its exit status."""

    def __init__(self, node: socket.socket) -> None:
        node.setblocking(False)
        self._node = node
        self._unframer = Unframer(msgspec.msgpack.Decoder(AnyOrder))
        self._unsent = bytearray()
        self._loop = Loop()
        self._party: PartyTunnel | None = None

    def run(self) -> int:
        self._loop.add(self._node.fileno(), self._on_node)
        try:
            self._loop.run(self._timer, self._on_timer)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            if self._party is not None:
                self._party.close()
        raise AssertionError("the loop ends by SystemExit only")

    def _timer(self) -> int | None:
        return self._party.timer() if self._party is not None else None

    def _on_timer(self, now: int) -> None:
        assert self._party is not None
        self._party.handle_timer(now)

    def _on_node(self, now: int, busy: bool) -> None:
        if self._unsent:
            self._flush()
        try:
            data = self._node.recv(65_536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            sys.exit(0)
        orders = self._unframer.feed(data)
        if orders is None:
            print("tunnel: what came from the node is not an order", file=sys.stderr)
            sys.exit(1)
        for order in orders:
            self._obey(order, now)

    def _obey(self, order: AnyOrder, now: int) -> None:
        if isinstance(order, Stop):
            sys.exit(0)
        if isinstance(order, Start):
            self._start(order)
            return
        if self._party is None:
            print(f"tunnel: {type(order).__name__} before Start", file=sys.stderr)
            sys.exit(1)
        self._party.obey(order, now)

    def _start(self, order: Start) -> None:
        if self._party is not None:
            self._tell(Started(interface=order.interface, port=self._party.port.port))
            return
        port = udp.open_port(order.port)
        if isinstance(port, Refusal):
            self._fail(port)
        tap = interface.create(order.interface)
        if isinstance(tap, Refusal):
            self._fail(tap)
        self._party = PartyTunnel(order.private_key, tap, port, self._tell, self._dial)
        self._party.data.watch(self._loop)
        tcp.load()
        privileges.keep_only((privileges.CAP_NET_ADMIN,), privileges.NOBODY, privileges.NOBODY)
        settle_memory()
        self._tell(Started(interface=tap.name, port=port.port))

    def _dial(self, grant: RelayGrant, deliver: Deliver, changed: Changed) -> tcp.TcpCarrier:
        """A relay's WebSocket. A name in its URL is not resolved here: it is where its UDP is."""
        places = [endpoint.parse(text) for text in grant.addresses]
        named = endpoint.parse(urlsplit(grant.tcp).netloc) is None
        hosts = [place[0] for place in places if place is not None and named]
        return tcp.TcpCarrier(
            self._loop, grant.tcp, grant.pin, addresses=hosts, deliver=deliver, changed=changed
        )

    def _fail(self, refusal: Refusal) -> NoReturn:
        self._tell(Failed(refusal=refusal))
        sys.exit(1)

    def _tell(self, notice: AnyNotice) -> None:
        if isinstance(notice, Counters) and self._unsent:
            return  # a node that does not keep up needs no more of these
        self._unsent += frame(notice)
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._node.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            sys.exit(0)
        del self._unsent[:sent]
        if len(self._unsent) > UNSENT_MAX:
            print("tunnel: the node does not read", file=sys.stderr)
            sys.exit(1)
        self._loop.want_write(self._node.fileno(), bool(self._unsent))


def settle_memory() -> None:
    """All that lives until the end is there: keep the collector away from it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
