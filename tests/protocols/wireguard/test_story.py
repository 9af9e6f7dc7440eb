"""Any story of calls, cuts and restarts keeps the tables in step, and ends well once it may."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard.constants import (
    NOTICES_MAX,
    OUTGOING_MAX,
    PREVIOUS_SESSIONS_MAX,
    QUEUED_PACKETS_MAX,
)
from lanrage.protocols.wireguard.engine import Engine, Peer, SessionDown, SessionUp

from .wire import INNER_A, INNER_B, A, B, Pair, Wire, ipv4, pair

ELSEWHERE: Place = ("203.0.113.1", 9)


@dataclass
class Story:
    both: Pair
    packets: dict[Place, bytes] = field(
        default_factory=lambda: {A: ipv4(INNER_A, INNER_B), B: ipv4(INNER_B, INNER_A)}
    )

    def side(self, at: Place) -> tuple[Engine, bytes, list[str], Place]:
        wire = self.both.wire
        if at == A:
            return wire.engines[A], wire.engines[B].public_key, ["10.66.0.2"], B
        return wire.engines[B], wire.engines[A].public_key, ["10.66.0.1"], A

    def step(self, what: str, at: Place, number: int) -> None:
        wire = self.both.wire
        core, other, allowed, there = self.side(at)
        peer = core.peers.get(other)
        if what == "wait":
            wire.run(number)
        elif what == "cut":
            wire.cut = not wire.cut
        elif what == "put":
            core.put_peer(other, allowed=allowed, keepalive_s=number % 3 * 10, endpoint=there)
        elif what == "restart":
            wire.run(0.1)
            fresh = pair(endpoints=False)
            wire.engines[at] = fresh.a if fresh.a.public_key == core.public_key else fresh.b
        elif peer is None:
            return
        elif what == "send":
            wire.send(at, peer, [self.packets[at]] * number)
        elif what == "drop":
            core.drop_peer(other)
        else:
            endpoint = {0: None, 1: there, 2: ELSEWHERE}[number % 3]
            core.set_endpoint(peer, endpoint, wire.now_ns)
        wire.pump()


def assert_in_step(core: Engine) -> None:
    peers = list(core.peers.values())
    held = {s.local_index: s for peer in peers for s in peer.sessions()}
    assert core._handshakes.sessions == held
    waiting = {p.pending.local_index: p for p in peers if p.pending is not None}
    assert core._handshakes._pending == waiting
    for peer in peers:
        assert len(peer.previous) <= PREVIOUS_SESSIONS_MAX
        assert len(peer.queue) <= QUEUED_PACKETS_MAX
        assert peer.current is not None or not peer.has_session
        assert core.timer() is None or core.timer() <= peer.deadlines.earliest()  # type: ignore[operator]
    assert len(core._outgoing) <= OUTGOING_MAX
    assert len(core._notices) <= NOTICES_MAX


def assert_notices_alternate(peer: Peer, notices: list[object]) -> None:
    mine = [type(n) for n in notices if isinstance(n, SessionUp | SessionDown) and n.peer is peer]
    assert mine == [SessionUp, SessionDown] * (len(mine) // 2) + [SessionUp] * (len(mine) % 2)


steps = st.tuples(
    st.sampled_from(["wait", "wait", "wait", "send", "send", "endpoint", "put", "drop", "cut"])
    | st.just("restart"),
    st.sampled_from([A, B]),
    st.integers(0, 200),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25), st.integers(0, 1000))
def test_any_story_stays_in_step_and_ends_connected(
    story: list[tuple[str, Place, int]], seed: int
) -> None:
    wire = Wire(seed=seed, jitter_ns=10_000_000, loss=0.1, duplicates=0.1)
    told = Story(pair(wire))
    for what, at, number in story:
        told.step(what, at, number)
        for core in wire.engines.values():
            assert_in_step(core)
            for peer in core.peers.values():
                assert_notices_alternate(peer, [*wire.notices[A], *wire.notices[B]])
    # Peace: a wire that loses nothing, and both know each other.
    wire.cut, wire.loss = False, 0
    for at in (A, B):
        core, other, allowed, there = told.side(at)
        peer = core.put_peer(other, allowed=allowed, keepalive_s=25)
        core.set_endpoint(peer, None, wire.now_ns)
        core.set_endpoint(peer, there, wire.now_ns)
    wire.run(20)
    for at, there in ((A, B), (B, A)):
        core, other, _, _ = told.side(at)
        wire.received[there].clear()
        wire.send(at, core.peers[other], [told.packets[at]])
        wire.run(0.2)
        assert wire.received[there] == [told.packets[at]]
