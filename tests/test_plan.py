"""Planning: the differences between what ought to be and what is, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from events.peer import Candidate
from lanrage import commands as c
from lanrage import effects as e
from lanrage.plan import plan
from lanrage.protocols import partylog
from projections.wanted import NOTHING, Wanted, WantedPeer, wanted
from tests.playbook import ALICE, BOB, CAROL, NOW_MS, Playbook, grown, joined

HOME = (Candidate("host", "192.168.1.7:26666"),)

peers = st.builds(
    WantedPeer,
    public_key=st.sampled_from([b"a" * 32, b"b" * 32]),
    allowed=st.sampled_from([("10.66.0.2/32",), ("10.66.0.3/32",)]),
    keepalive_s=st.sampled_from([0, 25]),
    candidates=st.sampled_from([(), HOME]),
)
worlds = st.builds(
    Wanted,
    address=st.just("10.66.0.1/16"),
    address6=st.just(""),
    mtu=st.sampled_from([1280, 1420]),
    peers=st.dictionaries(st.sampled_from(["p", "q", "r"]), peers),
    party=st.sampled_from(["x", "y"]),
    control=st.sampled_from([("ws://c",), ("ws://d",)]),
    serve=st.booleans(),
    servers=st.sampled_from([(), ("ws://c",)]),
    told=st.dictionaries(
        st.sampled_from(["p", "q"]), st.tuples(st.integers(1, 2), st.integers(0, 2))
    ),
) | st.just(NOTHING)


@given(worlds)
def test_nothing_is_done_when_all_is_as_it_ought_to_be(world: Wanted) -> None:
    assert plan(world, world) == ()


@given(worlds, worlds)
def test_performing_a_plan_reaches_what_is_wanted(target: Wanted, before: Wanted) -> None:
    world = before
    for effect in plan(target, before):
        world = performed(world, effect)
    reached = replace(world, told=target.told, control=target.control, party=target.party)
    assert reached == replace(target, peers=forgetful(target, before))


def forgetful(target: Wanted, before: Wanted) -> dict[str, WantedPeer]:
    """An empty candidate list is no order: the tunnel keeps what it had of a peer it knew."""
    known = before.peers if target.address else {}
    return {
        who: replace(peer, candidates=peer.candidates or known[who].candidates)
        if who in known
        else peer
        for who, peer in target.peers.items()
    }


def performed(world: Wanted, effect: e.Effect) -> Wanted:
    """What the world is like after `effect`, as the interpreter and the tunnel do it."""
    match effect:
        case e.Configure():
            return replace(world, address=effect.address, address6=effect.address6, mtu=effect.mtu)
        case e.Deconfigure():
            return replace(world, address="", address6="", mtu=0, peers={})
        case e.DropPeer(peer=who):
            return replace(world, peers={k: v for k, v in world.peers.items() if k != who})
        case e.PutPeer(peer=who):
            was = world.peers.get(who)
            peer = WantedPeer(
                public_key=effect.public_key,
                allowed=effect.allowed,
                keepalive_s=effect.keepalive_s,
                candidates=was.candidates if was else (),
            )
            return replace(world, peers={**world.peers, who: peer})
        case e.PutCandidates(peer=who):
            peer = replace(world.peers[who], candidates=effect.candidates)
            return replace(world, peers={**world.peers, who: peer})
        case e.RunControl(serve=serve):
            return replace(world, serve=serve)
        case e.UseServers(urls=urls):
            return replace(world, servers=urls)
        case _:
            return world


def test_outside_a_party_nothing_is_wanted() -> None:
    assert wanted(Playbook(ALICE).state) == NOTHING


def test_a_party_wants_interface_peers_control_and_servers() -> None:
    target = wanted(Playbook.in_party(ALICE, BOB, CAROL).state)
    assert target.address == "10.66.0.1/16"
    assert list(target.peers) == [BOB.peer, CAROL.peer]
    assert target.peers[BOB.peer].allowed[0] == "10.66.0.2/32"
    assert target.control == target.servers == ("ws://203.0.113.2:8667",)


def test_members_are_told_our_candidates_once_online_and_again_when_they_restart() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NoteAddresses(addresses=("192.168.0.2:26666",)))
    assert wanted(book.state).told == {}
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    first = wanted(book.state)
    assert plan(first, NOTHING)[-1] == e.Announce(
        peer=BOB.peer, generation=book.state.nat.generation
    )
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=5, candidates=HOME))
    again = [each for each in plan(wanted(book.state), first) if isinstance(each, e.Announce)]
    assert len(again) == 1


def test_a_new_session_wants_the_same_party_again() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.CloseSession(reason="stopped"))
    assert wanted(book.state) == NOTHING
    again = c.OpenSession(
        version="0", platform="t", peer=ALICE.peer, name="alice", wireguard=ALICE.wireguard
    )
    book.tell(again)
    assert list(wanted(book.state).peers) == [BOB.peer]


def test_who_left_and_came_back_within_one_batch_begins_anew_in_the_tunnel() -> None:
    """This node knew nothing of it meanwhile: control was out of reach, say."""
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=5, candidates=HOME))
    before, chain = wanted(book.state), book.state.chain
    left = partylog.leave(BOB.signer, chain, at_ms=NOW_MS)
    assert isinstance(left, bytes)
    back = joined(grown(chain, left), BOB)
    book.tell(c.AcceptRecords(party=chain.party, after=chain.length, records=(left, back)))
    effects = plan(wanted(book.state), before)
    assert [type(each) for each in effects] == [e.DropPeer, e.PutPeer]
