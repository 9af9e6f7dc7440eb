"""What a NAT does, by the tests of RFC 5780 §4: mapping, filtering, hairpin. The pure core.

*Mapping* says which public address a socket gets. The BASE socket asks every server on two ports,
and on its second address if it names one; the answers are compared:

    mapped address           the same for    differs only between   differs between ports
    is our own               every server    addresses              of one address
    "none"                   "independent"   "address"              "port"

*Filtering* says whose packets are let in. The FRESH socket sends to each server's main port and
nowhere else, and asks to be answered from where it never sent to:

    answered from another address     from another port only     neither
    "independent" ("none": no NAT)    "address"                  "port"

A server with one address cannot ask the first question, so then "address" means "address or
independent": the cautious reading, and the evidence says so. For a direct path it makes no
difference, since both sides send first. A server that answers from the very address it was asked
at did not understand; that is no proof of anything.

*Hairpin* says whether our own public address leads back in. Both sockets send to each other's
public address at once, as two members behind one router would: one that arrives is enough.

`Survey` is driven by whoever owns the sockets: `due` gives what to send now, `take` gets what
arrived, `behaviour` tells the result at any time. Replies count only with our transaction, the
cookie, and a source from which that reply may come. A server can make us send a few datagrams to
an address it names; TESTS_MAX and RETRY_NS bound how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lanrage.protocols import endpoint, stun
from lanrage.protocols.endpoint import Address

BASE, FRESH = 0, 1  # the sockets
SERVERS_MAX = 3
TESTS_MAX = 24
RETRY_NS = (0, 200_000_000, 500_000_000, 1_100_000_000)  # after the first try
GIVE_UP_NS = 2_400_000_000  # after the first try, too
PADDING = b"LANrage".ljust(52)  # SOFTWARE, so that no answer is longer than its question

PLAIN, CHANGE_PORT, CHANGE_BOTH, HAIRPIN = "plain", "port", "both", "hairpin"
_CHANGES = {CHANGE_PORT: stun.CHANGE_PORT, CHANGE_BOTH: stun.CHANGE_IP | stun.CHANGE_PORT}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The result, in the words of the event `nat.classified`."""

    mapping: str  # "independent" | "address" | "port" | "none" | "blocked" | "" (unknown)
    filtering: str  # the same
    hairpin: str  # "yes" | "no" | ""
    server: str  # the first that answered; empty if none did
    evidence: tuple[str, ...]  # the tests in words, in their order
    mapped: str = ""  # where the first server saw us
    rtts_us: tuple[tuple[str, int], ...] = ()  # of the servers that answered


class Send(NamedTuple):
    socket: int
    datagram: bytes
    to: Address


@dataclass(slots=True)
class _Test:
    socket: int
    kind: str
    to: Address
    transaction: bytes  # without its last byte, which counts the tries
    began_ns: int = -1
    tries: int = 0
    settled: bool = False
    source: Address | None = None  # where the answer came from
    mapped: Address | None = None
    rtt_us: int = 0
    refused: bool = False  # the server does not do this test

    @property
    def datagram(self) -> bytes:
        change = _CHANGES.get(self.kind)
        packed = [] if change is None else [(stun.CHANGE_REQUEST, change.to_bytes(4, "big"))]
        attributes = [(each.number, value) for each, value in packed]
        attributes.append((stun.SOFTWARE.number, PADDING))
        transaction = stun.COOKIE + self.transaction + bytes([self.tries])
        return stun.encode(stun.BINDING_REQUEST, transaction, attributes, fingerprint=True)

    def next_ns(self) -> int:
        """When it is to be sent again, or given up."""
        if self.tries == 0:
            return 0
        if self.tries < len(RETRY_NS):
            return self.began_ns + RETRY_NS[self.tries]
        return self.began_ns + GIVE_UP_NS


@dataclass(slots=True)
class Survey:
    """`servers` are IPv4 endpoints, each with or without its second port as one of its own; `own`
    this computer's addresses; `draw` gives random bytes."""

    servers: Sequence[Address]
    own: Iterable[str]
    draw: Callable[[int], bytes]
    _tests: list[_Test] = field(init=False, default_factory=list)
    _others: dict[Address, Address] = field(init=False, default_factory=dict)  # server -> its other

    def __post_init__(self) -> None:
        self.own = frozenset(self.own)
        listed = dict.fromkeys(self.servers)
        mains = [(host, port) for host, port in listed if (host, port - 1) not in listed]
        self.servers = tuple(mains[:SERVERS_MAX])
        for host, port in self.servers:
            self._add(BASE, PLAIN, (host, port))
            if port < 65_535:
                self._add(BASE, PLAIN, (host, port + 1))  # where ours have their second
            for kind in (PLAIN, CHANGE_PORT, CHANGE_BOTH):
                self._add(FRESH, kind, (host, port))

    # --- driving it ----------------------------------------------------------------------------

    def due(self, now_ns: int) -> list[Send]:
        """What to send now. Call it again at `wake_ns`, and after every `take`."""
        sends = []
        for test in self._tests:
            if test.settled or now_ns < test.next_ns():
                continue
            if test.tries == len(RETRY_NS):
                test.settled = True
                continue
            if test.tries == 0:
                test.began_ns = now_ns
            test.tries += 1
            sends.append(Send(test.socket, test.datagram, test.to))
        return sends

    def wake_ns(self) -> int | None:
        """When `due` has something next; None once every test is settled."""
        return min((test.next_ns() for test in self._tests if not test.settled), default=None)

    def take(self, socket: int, datagram: bytes, source: Address, now_ns: int) -> None:
        message = stun.parse(datagram)
        if message is None or message.classic:
            return
        test = self._asked(message.transaction[4:-1])
        if test is None or test.settled:
            return
        if test.kind == HAIRPIN:
            if message.type == stun.BINDING_REQUEST and socket != test.socket:
                self._settle_hairpin(source)
        elif socket == test.socket and message.type in (stun.BINDING_SUCCESS, stun.BINDING_ERROR):
            self._answered(test, message, source, now_ns)

    def _asked(self, transaction: bytes) -> _Test | None:
        return next((test for test in self._tests if test.transaction == transaction), None)

    def _answered(self, test: _Test, message: stun.Message, source: Address, now_ns: int) -> None:
        may_come = {
            PLAIN: source == test.to,
            CHANGE_PORT: source[0] == test.to[0],
            CHANGE_BOTH: True,
        }
        if not may_come[test.kind]:
            return
        test.settled = True
        if message.type == stun.BINDING_ERROR or (test.kind in _CHANGES and source == test.to):
            test.refused = True
            return
        test.source, test.mapped = source, message.mapped
        answered_try = min(message.transaction[-1], test.tries) - 1
        began_ns = test.began_ns + RETRY_NS[max(0, answered_try)]
        test.rtt_us = max(0, now_ns - began_ns) // 1000
        if test.kind == PLAIN and test.mapped is not None:
            self._learn(test, message)

    def _learn(self, test: _Test, message: stun.Message) -> None:
        """An answer may name the server's other address, and makes the hairpin test possible."""
        other = message.get(stun.OTHER_ADDRESS) or message.get(stun.CHANGED_ADDRESS)
        if test.socket == BASE and other and endpoint.is_unicast(other) and ":" not in other[0]:
            self._others.setdefault(test.to, other)
            self._add(BASE, PLAIN, (other[0], test.to[1]))
            self._add(BASE, PLAIN, other)
        base, fresh = self._mapped(BASE), self._mapped(FRESH)
        if base is None or fresh is None or base[0] in self.own:
            return
        if not any(each.kind == HAIRPIN for each in self._tests):
            self._add(FRESH, HAIRPIN, base)
            self._add(BASE, HAIRPIN, fresh)

    def _settle_hairpin(self, source: Address) -> None:
        for test in self._tests:
            if test.kind == HAIRPIN:
                test.settled = True
                test.source = source

    def _mapped(self, socket: int) -> Address | None:
        plain = (test for test in self._answers(PLAIN) if test.socket == socket)
        return next((test.mapped for test in plain), None)

    def _add(self, socket: int, kind: str, to: Address) -> None:
        known = any((t.socket, t.kind, t.to) == (socket, kind, to) for t in self._tests)
        usable = endpoint.is_unicast(to) or to[0].startswith("127.")
        if not known and usable and len(self._tests) < TESTS_MAX:
            transaction = self.draw(stun.TRANSACTION_BYTES - 1)
            self._tests.append(_Test(socket, kind, to, transaction))

    def _answers(self, kind: str) -> Iterator[_Test]:
        return (test for test in self._tests if test.kind == kind and test.source is not None)

    # --- what it says --------------------------------------------------------------------------

    def behaviour(self, *, tcp_works: bool | None) -> Behaviour:
        """The result so far. `tcp_works`: whether a server could be reached over TCP meanwhile;
        silence is "blocked" only if it could (None: not tried)."""
        base = [test for test in self._answers(PLAIN) if test.socket == BASE]
        heard = next(iter([*base, *self._answers(PLAIN)]), None)
        if heard is None:
            return self._silence(tcp_works)
        mapping, mapping_why = self._mapping(base)
        filtering, filtering_why = self._filtering(mapping)
        hairpin, hairpin_why = self._hairpin(mapping)
        asked = [_plain_words(t) for t in self._tests if t.socket == BASE and t.kind == PLAIN]
        return Behaviour(
            mapping=mapping,
            filtering=filtering,
            hairpin=hairpin,
            server=endpoint.text(heard.to),
            evidence=(*filter(None, asked), mapping_why, *filtering_why, *hairpin_why),
            mapped=endpoint.text(heard.mapped) if heard.mapped else "",
            rtts_us=tuple((endpoint.text(t.to), t.rtt_us) for t in base if t.to in self.servers),
        )

    def _silence(self, tcp_works: bool | None) -> Behaviour:
        asked = ", ".join(endpoint.text(each) for each in self.servers)
        if any(test.refused for test in self._tests):
            return Behaviour("", "", "", "", (f"an error instead of an answer from {asked}",))
        words = [f"no answer over UDP from {asked}" if asked else "no server to ask over IPv4"]
        if tcp_works is not None and asked:
            words.append("TCP to a server works" if tcp_works else "no server over TCP, either")
        kind = "blocked" if tcp_works and asked else ""
        return Behaviour(kind, kind, "", "", tuple(words))

    def _mapping(self, base: list[_Test]) -> tuple[str, str]:
        seen = {test.to: test.mapped for test in base if test.mapped is not None}
        hosts = {to[0] for to in seen}
        if any(mapped[0] in self.own for mapped in seen.values()):
            return "none", "that is our own address: there is no NAT"
        if len(seen) < 2:
            return "", "one answer alone does not show on what the mapping depends"
        if len(set(seen.values())) == 1:
            alone = " (one address asked: a NAT that minds only that would look the same)"
            return "independent", f"always the same{alone if len(hosts) == 1 else ''}"
        for host in sorted(hosts):
            if len({mapped for to, mapped in seen.items() if to[0] == host}) > 1:
                return "port", f"differs between ports of {host}: another one for each destination"
        if len(hosts) == len(seen):
            return "port", "differs between addresses; between ports could not be compared"
        return "address", "differs between addresses, not between ports"

    def _filtering(self, mapping: str) -> tuple[str, list[str]]:
        answered = any(test.socket == FRESH for test in self._answers(PLAIN))
        if not answered:
            return "", ["the socket for the filtering tests got no answer"]
        tests = [test for test in self._tests if test.kind in _CHANGES and self._did_answer(test)]
        words = [self._change_words(test) for test in tests]
        asked_hosts = {test.to[0] for test in self._tests if test.socket == FRESH}
        for test in tests:
            if test.kind == CHANGE_BOTH and test.source and test.source[0] not in asked_hosts:
                return ("none" if mapping == "none" else "independent"), words
        ports = [test for test in tests if test.kind == CHANGE_PORT]
        if any(test.source for test in ports):
            if not self._named_another():
                words.append("no server here has a second address to show whether others get in")
            return "address", words
        return ("" if all(test.refused for test in ports) else "port"), words

    def _did_answer(self, change: _Test) -> bool:
        """Whether that test's server answers this socket at all: else its silence says nothing."""
        plain = (t for t in self._answers(PLAIN) if t.socket == FRESH)
        return any(test.to == change.to for test in plain)

    def _named_another(self) -> bool:
        return any(server[0] != other[0] for server, other in self._others.items())

    def _change_words(self, test: _Test) -> str:
        what = "another port" if test.kind == CHANGE_PORT else "another address"
        asked = f"{endpoint.text(test.to)} asked to answer from {what}"
        if test.refused:
            return f"{asked}: it does not do that"
        if test.source is None:
            return f"{asked}: nothing came"
        return f"{asked}: came from {endpoint.text(test.source)}"

    def _hairpin(self, mapping: str) -> tuple[str, list[str]]:
        tests = [test for test in self._tests if test.kind == HAIRPIN]
        if not tests or mapping == "none":
            return "", []
        to = endpoint.text(tests[0].to)
        if any(test.source for test in tests):
            return "yes", [f"sent to {to}, our own public address: came back in"]
        return "no", [f"sent to {to}, our own public address: did not come back"]


def _plain_words(test: _Test) -> str:
    server = endpoint.text(test.to)
    if test.mapped is None:
        return f"{server} does not answer" if test.settled else ""
    return f"{server} sees {endpoint.text(test.mapped)} ({test.rtt_us / 1000:.1f} ms)"
