"""What the world sees of our socket: a STUN client (RFC 8489) for several servers at once. Pure.

Every server is asked in rounds. A round sends a request at growing intervals until one is answered
or the round is given up; then the server rests until the next round, a random 20 to 26 s after the
last one began. That keeps the mapping in the router alive (RFC 4787 allows 2 minutes, routers in
shops give 30 s) and notices when it changes. Every transmission is a transaction of its own, which
makes each round trip exact; RFC 8489 would repeat the same one (§6.2.1) and could not tell which
it was that got answered. An answer counts only from the server's own address, with a transaction
we drew (96 bits) and still wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lanrage.protocols import endpoint, stun
from lanrage.protocols.endpoint import Address
from lanrage.tunnel.messages import Mapped, Unmapped
from lanrage.tunnel.outlet import Outlet

MS = 1_000_000
ROUND_STEPS_NS = tuple(ms * MS for ms in (0, 200, 600, 1400, 3000))
GIVE_UP_NS = 5000 * MS
REST_MIN_NS = 20_000 * MS
REST_SPREAD_NS = 6_000 * MS
SLACK_NS = 2_000 * MS  # a rest may end this much early, to share a wake-up
AGAIN_NS = 2_000 * MS
SERVERS_MAX = 8


@dataclass(slots=True)
class Server:
    """One server and the round it is in. `step` counts the requests of this round."""

    name: str
    address: Address
    began_ns: int
    due_ns: int
    step: int = 0
    resting: bool = False
    mapped: Address | None = None
    failure: str = ""  # what was last reported as Unmapped
    pending: dict[bytes, int] = field(default_factory=dict)  # transaction -> sent at


class Mapping:
    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._servers: dict[Address, Server] = {}

    def put_servers(self, servers: Sequence[str], now_ns: int) -> None:
        """The servers to ask from now on; those already asked go on undisturbed."""
        wanted: dict[Address, str] = {}
        for name in servers:
            address = endpoint.parse(name)
            if address is None or len(wanted) == SERVERS_MAX:
                self._outlet.drop("stun_server_refused")
                continue
            wanted[address] = name
        kept = {a: s for a, s in self._servers.items() if a in wanted}
        for address, server in self._servers.items():
            if address not in kept and server.mapped is not None:
                self._fail(server, "it is not asked any more")
        for address, name in wanted.items():
            if address not in kept:
                kept[address] = Server(name, address, now_ns, now_ns)
        self._servers = kept
        self.handle_timer(now_ns)

    def receive(self, datagram: bytes, source: Address, now_ns: int) -> None:
        message = stun.parse(datagram)
        server = self._servers.get(source)
        if message is None or server is None:
            return self._outlet.drop("stun_unknown")
        sent_ns = server.pending.pop(message.transaction[4:], None)
        if sent_ns is None or message.classic:
            return self._outlet.drop("stun_unknown")
        self._rest(server)
        mapped = message.mapped
        if message.type != stun.BINDING_SUCCESS or mapped is None:
            error = message.get(stun.ERROR_CODE)
            what = f"error {error[0]}" if error else "no address"
            return self._fail(server, f"it answered with {what}")
        if not endpoint.is_unicast(mapped):
            seen = endpoint.text(mapped)
            return self._fail(server, f"it sees us at {seen}, which nobody else can reach")
        server.failure = ""
        if mapped != server.mapped:
            server.mapped = mapped
            rtt_us = (now_ns - sent_ns) // 1000
            address = endpoint.text(mapped)
            self._outlet.notices.append(Mapped(server=server.name, address=address, rtt_us=rtt_us))
        return None

    def ask_again(self, now_ns: int) -> None:
        """Something went wrong with a path: perhaps our router forgot us. Do not wait to see."""
        for server in self._servers.values():
            if server.resting and now_ns - server.began_ns >= AGAIN_NS:
                self._advance(server, now_ns)

    def ask_now(self, now_ns: int) -> None:
        """Our own network changed: whatever was learnt was learnt elsewhere."""
        for server in self._servers.values():
            server.resting = True
            self._advance(server, now_ns)

    def timer(self) -> int | None:
        return min((server.due_ns for server in self._servers.values()), default=None)

    def handle_timer(self, now_ns: int) -> None:
        for server in self._servers.values():
            early_ns = SLACK_NS if server.resting else 0
            if now_ns >= server.due_ns - early_ns:
                self._advance(server, now_ns)

    def _advance(self, server: Server, now_ns: int) -> None:
        if server.resting:
            server.began_ns, server.step, server.resting = now_ns, 0, False
            server.pending.clear()
        if server.step == len(ROUND_STEPS_NS):
            self._rest(server)
            return self._fail(server, f"no answer within {GIVE_UP_NS // 10**9} s")
        transaction = self._outlet.random(stun.TRANSACTION_BYTES)
        server.pending[transaction] = now_ns
        self._outlet.outgoing.append((server.address, stun.request(transaction)))
        server.step += 1
        last = server.step == len(ROUND_STEPS_NS)
        server.due_ns = server.began_ns + (GIVE_UP_NS if last else ROUND_STEPS_NS[server.step])
        return None

    def _rest(self, server: Server) -> None:
        share = int.from_bytes(self._outlet.random(2), "big")
        server.due_ns = server.began_ns + REST_MIN_NS + REST_SPREAD_NS * share // 65536
        server.resting = True

    def _fail(self, server: Server, reason: str) -> None:
        server.mapped = None
        if reason != server.failure:
            server.failure = reason
            self._outlet.notices.append(Unmapped(server=server.name, reason=reason))

    @property
    def varies(self) -> bool:
        """Whether two servers see us at different addresses: endpoint-dependent mapping, under
        which an address learnt from a server is worth nothing to anybody else."""
        mapped = [s.mapped for s in self._servers.values() if s.mapped is not None]
        old = {m for m in mapped if ":" not in m[0]}
        new = {m for m in mapped if ":" in m[0]}
        return len(old) > 1 or len(new) > 1

    @property
    def silent(self) -> bool:
        """Whether there are servers and every one of them failed."""
        servers = self._servers.values()
        return bool(servers) and all(server.failure for server in servers)
