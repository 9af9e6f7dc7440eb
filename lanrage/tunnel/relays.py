"""The relays we may use: bound over UDP, and over TCP where UDP does not get through.

Every relay is bound to over UDP, always, and when that fails it is tried again and again. TCP is
for networks that let nothing else out: if no relay at all has answered over UDP after 700 ms, a
WebSocket is opened to the nearest one that offers it, then to the next ones, since the others may
not be bound to the same relay. A relay knows a member at one address only, so as soon as UDP holds,
the binding over TCP rests; the connections are closed when it has held for 30 s.

    a relay's UDP    its TCP link    what is sent to it
    bound            any             UDP
    not bound        bound           WebSocket messages
    not bound        not bound       nothing; the path core is told that it is not there

The path core learns which relays are usable, and the node what happened, from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.binding import (
    ADDRESSES_MAX,
    Binding,
    BindingNotice,
    Bound,
    Unbound,
)
from lanrage.tunnel.messages import RelayBound, RelayGrant, RelayMeasured, RelayUnbound
from lanrage.tunnel.outside import Carrier, Outside
from lanrage.tunnel.paths import BoundRelay

MS = 1_000_000
TCP_AFTER_NS = 700 * MS  # without any relay over UDP
TCP_NEXT_NS = 2000 * MS  # until the next relay is dialled, too
TCP_CLOSE_NS = 30_000 * MS  # after UDP holds
TCP_AGAIN_NS = tuple(s * 1000 * MS for s in (1, 2, 4, 8, 15))  # after a link broke
RELAYS_MAX = 8

Notice: TypeAlias = RelayBound | RelayUnbound | RelayMeasured


class Link(Carrier, Protocol):
    """A WebSocket to a relay (tcp.py)."""

    def timer(self) -> int | None: ...

    def handle_timer(self, now_ns: int) -> None: ...

    def close(self) -> None: ...

    def count_drops(self) -> dict[str, int]: ...


Deliver: TypeAlias = Callable[[list[bytes], int], None]  # datagrams, now
Changed: TypeAlias = Callable[[str | None, int], None]  # why it is closed; None: it is open; now
Dial: TypeAlias = Callable[[RelayGrant, Deliver, Changed], Link]


@dataclass(slots=True, eq=False)
class _Relay:
    grant: RelayGrant
    keys: wire.Keys
    udp: Binding
    tcp: Binding
    link: Link | None = None
    is_open: bool = False
    failures: int = 0
    again_ns: int = 0  # when the link may be dialled again


class Relays:
    """`tell` reports to the node, `usable` to the path core whenever something changed, and
    `deliver(datagrams, place, now)` takes what comes over TCP."""

    def __init__(
        self,
        private_key: bytes,
        outside: Outside,
        *,
        random: Callable[[int], bytes],
        dial: Dial | None,
        deliver: Callable[[list[bytes], Place, int], None],
        tell: Callable[[Notice], None],
        usable: Callable[[Sequence[BoundRelay], int], None],
    ) -> None:
        self.drops: dict[str, int] = {}
        self._private_key = private_key
        self._outside = outside
        self._random = random
        self._dial = dial
        self._deliver = deliver
        self._tell = tell
        self._usable = usable
        self._said: list[BoundRelay] = []
        self._relays: dict[str, _Relay] = {}  # nearest first
        self._of: dict[Address, _Relay] = {}
        self._without_ns: int | None = None  # since when no relay is bound over UDP
        self._holds_ns: int | None = None  # since when one is
        self._links: list[Link] = []
        self._due_ns: int | None = None  # of everything but the links; asked after every wake-up

    def close(self) -> None:
        for relay in self._relays.values():
            if relay.link is not None:
                relay.link.close()

    def put(self, grants: Sequence[RelayGrant], now: int) -> None:
        """The relays to be bound to, nearest first; those not named are left."""
        old, self._relays = self._relays, {}
        for grant in grants[:RELAYS_MAX]:
            known = old.get(grant.relay)
            if known is not None and _is_same(known.grant, grant):
                del old[grant.relay]
                known.grant = grant
                for binding in (known.udp, known.tcp):
                    binding.put_ticket(grant.ticket, grant.boot, now)
                self._relays[grant.relay] = known
                continue
            made = self._made(grant)
            if made is not None:
                self._relays[grant.relay] = made
        for relay in old.values():
            self._leave(relay, now)
        self._of = {}
        if not self._relays:
            self._without_ns = self._holds_ns = None
        for relay in self._relays.values():
            for address in _addresses(relay.grant):
                self._of.setdefault(address, relay)
            if relay.udp.is_resting:
                relay.udp.start(now)
        self._settle(now)

    def change_network(self, now: int) -> None:
        """Our own addresses changed: all is bound and dialled anew."""
        for relay in self._relays.values():
            relay.udp.doubt(now)
            relay.failures, relay.again_ns = 0, now
            self._hang_up(relay, "our network changed", now)
        self._without_ns = None
        self._settle(now)

    def name_at(self, source: Place) -> tuple[str, str] | None:
        """Carrier and name of the relay that forwards to us from there."""
        if isinstance(source, Via):
            known = source.carrier == "tcp" and source.name in self._relays
            return ("tcp", source.name) if known else None
        relay = self._of.get(source)
        if relay is None or relay.udp.address != source:
            return None
        return "relay", relay.grant.relay

    def receive(self, datagram: bytes, source: Place, now: int) -> None:
        """A control message."""
        if isinstance(source, Via):
            relay = self._relays.get(source.name) if source.carrier == "tcp" else None
            if relay is not None:
                relay.tcp.receive(datagram, _pseudo(relay.grant), now)
        else:
            relay = self._of.get(source)
            if relay is not None:
                relay.udp.receive(datagram, source, now)
        if relay is None:
            self.drops["relay_unknown"] = self.drops.get("relay_unknown", 0) + 1
            return
        self._settle(now)

    def timer(self) -> int | None:
        if not self._links:
            return self._due_ns
        dues = [self._due_ns, *(link.timer() for link in self._links)]
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now: int) -> None:
        if not self._relays:
            return
        for binding in self._bindings():
            binding.handle_timer(now)
        for link in self._links:
            link.handle_timer(now)
        self._settle(now)

    # --- one relay ------------------------------------------------------------------------------

    def _made(self, grant: RelayGrant) -> _Relay | None:
        keys = wire.derive(self._private_key, grant.public_key, relay=False)
        addresses = _addresses(grant)
        if keys is None or not addresses or len(grant.ticket) != wire.TICKET_BYTES:
            self.drops["relay_grant"] = self.drops.get("relay_grant", 0) + 1
            return None
        udp, tcp = (
            Binding(keys=keys, ticket=grant.ticket, addresses=leads, random=self._random)
            for leads in (addresses, (_pseudo(grant),))
        )
        return _Relay(grant, keys, udp, tcp)

    def _leave(self, relay: _Relay, now: int) -> None:
        relay.udp.rest("control does not offer it any more", now)
        self._take_notices(relay, now)
        self._hang_up(relay, "control does not offer it any more", now)
        self._take_notices(relay, now)
        for binding in (relay.udp, relay.tcp):
            self._keep_drops(binding.drops)

    def _bindings(self) -> Iterator[Binding]:
        for relay in self._relays.values():
            yield relay.udp
            yield relay.tcp

    # --- TCP ------------------------------------------------------------------------------------

    def _policy_due(self) -> int | None:
        if self._holds_ns is not None:
            links = any(relay.link is not None for relay in self._relays.values())
            return self._holds_ns + TCP_CLOSE_NS if links else None
        if self._without_ns is None or self._dial is None:
            return None
        waiting = [each for each in self._relays.values() if each.grant.tcp and not each.link]
        if not waiting:
            return None
        return max(self._dials_from_ns(), min(relay.again_ns for relay in waiting))

    def _dials_from_ns(self) -> int:
        """When the next link may be opened: there is one more every two seconds."""
        assert self._without_ns is not None
        links = sum(1 for relay in self._relays.values() if relay.link is not None)
        return self._without_ns + TCP_AFTER_NS + links * TCP_NEXT_NS

    def _decide(self, now: int) -> None:
        """Whether TCP is needed, according to what is bound over UDP."""
        if any(relay.udp.is_bound for relay in self._relays.values()):
            self._without_ns = None
            self._holds_ns = now if self._holds_ns is None else self._holds_ns
            if now - self._holds_ns >= TCP_CLOSE_NS:
                for relay in self._relays.values():
                    self._hang_up(relay, "UDP works", now)
            return
        self._holds_ns = None
        if self._without_ns is None and self._relays:
            self._without_ns = now
        due_ns = self._policy_due()
        if due_ns is not None and now >= due_ns:
            self._dial_next(now)

    def _dial_next(self, now: int) -> None:
        for relay in self._relays.values():
            if relay.grant.tcp and relay.link is None and now >= relay.again_ns:
                relay.link = self._dialled(relay.grant)
                return

    def _dialled(self, grant: RelayGrant) -> Link:
        assert self._dial is not None
        place = Via("tcp", grant.relay, 0)
        return self._dial(
            grant,
            lambda datagrams, now: self._deliver(datagrams, place, now),
            lambda why, now: self._link_changed(grant.relay, why, now),
        )

    def _link_changed(self, name: str, why: str | None, now: int) -> None:
        relay = self._relays.get(name)
        if relay is None:
            return
        if why is None:
            relay.is_open = True
            if not relay.udp.is_bound:
                relay.tcp.start(now)
        else:
            again = TCP_AGAIN_NS[min(relay.failures, len(TCP_AGAIN_NS) - 1)]
            relay.failures += 1
            relay.again_ns = now + again
            self._hang_up(relay, why, now)
        self._settle(now)

    def _hang_up(self, relay: _Relay, why: str, now: int) -> None:
        relay.tcp.rest(why, now)
        link, relay.link, relay.is_open = relay.link, None, False
        self._outside.put_carrier(relay.grant.relay, None)
        if link is not None:
            link.close()
            self._keep_drops(link.count_drops())

    # --- after every change ---------------------------------------------------------------------

    def _settle(self, now: int) -> None:
        self._decide(now)
        for relay in self._relays.values():
            self._take_notices(relay, now)
        for relay in self._relays.values():
            for address, datagram in relay.udp.take_outgoing():
                self._outside.port.send(address, [datagram])
            for _, datagram in relay.tcp.take_outgoing():
                if relay.link is not None:
                    relay.link.send([datagram], now, urgent=True)
        self._say_usable(now)
        self._links = [relay.link for relay in self._relays.values() if relay.link is not None]
        dues = [self._policy_due(), *(binding.timer() for binding in self._bindings())]
        self._due_ns = min((due for due in dues if due is not None), default=None)

    def _take_notices(self, relay: _Relay, now: int) -> None:
        for notice in relay.udp.take_notices():
            if isinstance(notice, Bound):
                self._outside.put_relay(relay.grant.relay, relay.udp.address)
                self._outside.put_carrier(relay.grant.relay, None)
                relay.tcp.rest("UDP works", now)
            elif isinstance(notice, Unbound):
                self._outside.put_relay(relay.grant.relay, None)
                if relay.is_open:
                    relay.tcp.start(now)
            self._tell(_said(relay.grant.relay, "relay", notice))
        for notice in relay.tcp.take_notices():
            if isinstance(notice, Bound):
                relay.failures = 0
                self._outside.put_carrier(relay.grant.relay, relay.link)
            elif isinstance(notice, Unbound):
                self._outside.put_carrier(relay.grant.relay, None)
            self._tell(_said(relay.grant.relay, "tcp", notice))

    def _say_usable(self, now: int) -> None:
        usable: list[BoundRelay] = []
        for name, relay in self._relays.items():
            if relay.udp.is_bound:
                usable.append(BoundRelay(name, "relay", relay.udp.rtt_ns))
            elif relay.tcp.is_bound:
                usable.append(BoundRelay(name, "tcp", relay.tcp.rtt_ns))
        if usable != self._said:
            self._said = usable
            self._usable(usable, now)

    def count_drops(self) -> dict[str, int]:
        """Of all relays, by reason, since the start."""
        counted = dict(self.drops)
        for binding in self._bindings():
            _add(counted, binding.drops)
        for link in self._links:
            _add(counted, link.count_drops())
        return counted

    def _keep_drops(self, drops: dict[str, int]) -> None:
        _add(self.drops, drops)


def _add(total: dict[str, int], drops: dict[str, int]) -> None:
    for reason, count in drops.items():
        total[reason] = total.get(reason, 0) + count


def _said(name: str, carrier: str, notice: BindingNotice) -> Notice:
    if isinstance(notice, Bound):
        return RelayBound(
            relay=name,
            carrier=carrier,
            address=endpoint.text(notice.observed),
            rtt_us=notice.rtt_ns // 1000,
            took_ms=notice.took_ns // MS,
        )
    if isinstance(notice, Unbound):
        return RelayUnbound(relay=name, carrier=carrier, reason=notice.reason)
    return RelayMeasured(relay=name, rtt_us=notice.rtt_ns // 1000)


def _is_same(old: RelayGrant, new: RelayGrant) -> bool:
    """Whether only the ticket or the boot may differ."""
    return (old.addresses, old.tcp, old.pin, old.public_key) == (
        new.addresses,
        new.tcp,
        new.pin,
        new.public_key,
    )


def _addresses(grant: RelayGrant) -> list[Address]:
    parsed = [endpoint.parse(text) for text in grant.addresses]
    return [address for address in parsed if address is not None][:ADDRESSES_MAX]


def _pseudo(grant: RelayGrant) -> Address:
    """What stands for the far end of a link, where a binding wants an address."""
    return grant.tcp, 0
