"""A dishonest control server: whatever it shows, nothing false is taken over, and it is told."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest

from lanrage.control import client as control
from lanrage.control import messages as m
from lanrage.identity import Identity
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from tests.control.liar import CHALLENGE, lying, pages, welcome
from tests.control.room import Node
from tests.protocols import party as p
from tests.protocols.party import ADA, BOB, CAT, Device, Ticket, added

STORY = p.story()
HELD = 4  # records that the member under test already holds


def identity(device: Device) -> Identity:
    return Identity(device.signer, device.private, device.name)


def chain_of(records: Sequence[bytes]) -> Chain:
    chain = partylog.extend(partylog.EMPTY, records)
    assert isinstance(chain, Chain), chain
    return chain


async def shown(frames: Sequence[m.FromServer | bytes | str]) -> tuple[Node, Chain]:
    """A member that holds the first records meets a server that sends these frames."""
    held = chain_of(STORY[:HELD])
    node = Node(identity=identity(ADA))
    node.chain = held
    async with lying([welcome(STORY), *frames]) as liar:
        node.client.want(control.Target(held.party, (liar.url,), held))
        await node.heard(control.Disconnected)
        await node.client.close()
    return node, held


async def test_the_truth_is_taken() -> None:
    node, _ = await shown([*pages(STORY, HELD), m.Refused(code="test", reason="over")])
    assert node.chain == chain_of(STORY)
    assert not any(isinstance(each, control.Diverged) for each in node.notices)


def _altered(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def _forked() -> bytes:
    """A second child of the head that the member holds, well signed by the admin."""
    return p.rename_party(chain_of(STORY[:HELD]), ADA, "Sunday")


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(pages(STORY, HELD + 1), id="drops"),
        pytest.param(pages([*STORY[:HELD], *STORY[HELD + 1 :]], HELD), id="cuts out"),
        pytest.param(pages([*STORY[:HELD], STORY[HELD + 1], STORY[HELD]], HELD), id="reorders"),
        pytest.param(pages([*STORY[:HELD], _altered(STORY[HELD])], HELD), id="alters"),
        pytest.param(pages(STORY), id="starts over"),
        pytest.param(pages([*STORY[:HELD], STORY[HELD - 1]], HELD), id="repeats"),
        pytest.param(pages([*STORY[:HELD], b"\x01" + bytes(100)], HELD), id="invents"),
        pytest.param(
            [*pages(STORY, HELD), *pages([*STORY[:HELD], _forked()], HELD)], id="forks later"
        ),
        pytest.param(
            pages([*STORY, p.kick(chain_of(STORY), BOB, ADA)], HELD), id="lets a member kick"
        ),
    ],
)
async def test_what_a_lying_server_shows_is_refused_and_told(
    frames: list[m.FromServer],
) -> None:
    node, held = await shown(frames)
    told = [each for each in node.notices if isinstance(each, control.Diverged)]
    assert len(told) == 1
    assert told[0].reason
    # What was taken before is the truth, nothing else is.
    assert node.chain in (held, chain_of(STORY))


@pytest.mark.parametrize("seed", range(40))
async def test_random_lies_never_change_what_a_member_holds(seed: int) -> None:
    rng = random.Random(seed)
    lie = list(STORY)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(HELD, len(lie))
        kind = rng.randrange(4)
        if kind == 0 and len(lie) > HELD + 1:
            del lie[at]
        elif kind == 1:
            lie[at], lie[at - 1] = lie[at - 1], lie[at]
        elif kind == 2:
            lie.insert(at, rng.choice(STORY))
        else:
            where = rng.randrange(len(lie[at]))
            lie[at] = lie[at][:where] + bytes([lie[at][where] ^ 1]) + lie[at][where + 1 :]
    node, _ = await shown([*pages(lie, HELD), m.Refused(code="test", reason="over")])
    truth = [partylog.hash_of(record).hex() for record in STORY]
    assert node.chain.head == truth[node.chain.length - 1]


@pytest.mark.parametrize(
    "said",
    [b"", b"\xc1", b"\x81\xa4type\xa7records", "text", m.Append(id=1, record=b"x"), bytes(70_000)],
)
async def test_garbage_from_the_server_ends_the_connection_and_nothing_else(
    said: m.FromServer | bytes | str,
) -> None:
    node, held = await shown([said])
    assert node.chain == held


async def test_a_server_that_was_rolled_back_is_told_and_our_chain_stays() -> None:
    held = chain_of(STORY)
    async with lying([m.Refused(code="diverged", reason="x")]) as liar:
        node = Node(identity=identity(ADA))
        node.client.want(control.Target(held.party, (liar.url,), held))
        told = await node.heard(control.Diverged)
        gone = await node.heard(control.Disconnected)
        await node.client.close()
    assert told.url == liar.url
    assert gone.code == "diverged"


async def test_presence_and_signals_of_strangers_are_ignored() -> None:
    node, _ = await shown(
        [
            m.Signal(sender=p.DAN.peer, sealed=b"x"),
            m.Presence(online=(p.DAN.peer, ADA.peer)),
            m.Signal(sender=BOB.peer, sealed=b"y"),
            m.Refused(code="test", reason="over"),
        ]
    )
    presence = await node.heard(control.Presence)
    signals = [each for each in node.notices if isinstance(each, control.SignalArrived)]
    assert presence.online == (ADA.peer,)
    assert signals == [control.SignalArrived(BOB.peer, b"y")]


# --- joining at a dishonest server ------------------------------------------------------------

TICKET = Ticket("guest")
BEFORE = chain_of(STORY)
ISSUE = p.issue(BEFORE, TICKET)
CHAIN = added(BEFORE, ISSUE)
RECORDS = [*STORY, ISSUE]
GUEST = Device("guest")


def invite(url: str) -> Invite:
    return Invite(
        party=CHAIN.party,
        seed=TICKET.seed,
        head=CHAIN.head,
        length=CHAIN.length,
        control=(url,),
        name="Saturday",
    )


async def joined(
    records: Sequence[bytes], *, take: bool = True, length: int | None = None
) -> control.Joined | Refusal:
    """Join at a server that shows these records and then, if it takes it, our own."""

    def on_append(append: m.Append) -> list[m.FromServer]:
        more = [*records, append.record] if take else records
        stated = len(records) + 1 if length is None else length
        return [*pages(more, len(records)), m.Appended(id=append.id, length=stated)]

    async with lying([welcome(records), *pages(records)], on_append=on_append) as liar:
        return await control.join(invite(liar.url), identity(GUEST))


async def test_at_an_honest_server_the_join_is_whole() -> None:
    result = await joined(RECORDS)
    assert isinstance(result, control.Joined)
    assert result.party == CHAIN.party
    assert GUEST.peer in chain_of(result.records).members


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(STORY, id="hides the end"),
        pytest.param(STORY[:3], id="was rolled back"),
        pytest.param(RECORDS[1:], id="hides the beginning"),
        pytest.param([p.genesis(CAT)], id="shows another party"),
        pytest.param([*STORY[:-1], ISSUE], id="cuts out"),
        pytest.param([*STORY, p.rename_party(BEFORE, ADA, "Fork")], id="shows a fork"),
        pytest.param([*STORY[:5], _altered(STORY[5]), *STORY[6:], ISSUE], id="alters"),
    ],
)
async def test_a_guest_does_not_join_a_false_history(records: list[bytes]) -> None:
    result = await joined(records)
    assert isinstance(result, Refusal)
    assert result.code == "control_dishonest"


LATER = [p.rename_party(CHAIN, ADA, "Sunday")]
LATER.append(p.rename(added(CHAIN, LATER[0]), ADA, "Ada"))
WHOLE = [*RECORDS, *LATER]
FORK = [*RECORDS, p.rename_party(CHAIN, ADA, "Fork")]
FORK.append(p.rename(chain_of(FORK), ADA, "Eve"))
ELSEWHERE = [p.genesis(CAT), p.issue(p.founded(CAT), TICKET, CAT)]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        pytest.param(WHOLE, "", id="the truth"),
        pytest.param(RECORDS, "hides the end", id="well signed but without its end"),
        pytest.param(ELSEWHERE, "of another party", id="of another party with the same invite"),
        pytest.param(FORK, "another history", id="well signed by a founder who helps it lie"),
    ],
)
async def test_a_guest_holds_a_server_to_the_head_in_its_invite(
    records: list[bytes], why: str
) -> None:
    """The server has the guest sign anew on the history it shows, in which the invite is good."""
    floor = chain_of(WHOLE)

    def on_append(append: m.Append) -> list[m.FromServer]:
        if append.id == 1:
            return [m.Conflict(id=append.id)]
        more = [*records, append.record]
        return [*pages(more, len(records)), m.Appended(id=append.id, length=len(more))]

    async with lying([welcome(records), *pages(records)], on_append=on_append) as liar:
        made = msgspec.structs.replace(invite(liar.url), head=floor.head, length=floor.length)
        result = await control.join(made, identity(GUEST))
    if not why:
        assert isinstance(result, control.Joined), result
        return
    assert isinstance(result, Refusal)
    assert (result.code, why in result.why) == ("control_dishonest", True)


async def test_a_server_that_took_more_than_it_shows_is_not_believed() -> None:
    result = await joined(RECORDS, length=len(RECORDS) + 2)
    assert isinstance(result, Refusal)
    assert "hides the end" in result.why


async def test_a_guest_that_is_told_it_joined_but_did_not_says_so() -> None:
    result = await joined(RECORDS, take=False, length=len(RECORDS))
    assert isinstance(result, Refusal)
    assert result.code == "control_dishonest"


async def test_a_server_that_conflicts_for_ever_is_given_up() -> None:
    async with lying(
        [welcome(RECORDS), *pages(RECORDS)], on_append=lambda each: [m.Conflict(id=each.id)]
    ) as liar:
        result = await control.join(invite(liar.url), identity(GUEST))
        assert isinstance(result, Refusal)
        assert result.code == "control_busy"
        assert len(liar.appends) < 50


async def test_the_servers_words_reach_a_person_only_printable_and_short() -> None:
    said = m.Refused(code="x\x1b[31m" * 20, reason="\x1b]0;title\x07" + "a" * 200)
    async with lying([said]) as liar:
        result = await control.join(invite(liar.url), identity(GUEST))
    assert isinstance(result, Refusal)
    assert str(result).isprintable()
    assert len(str(result)) < 300


async def test_the_join_states_the_servers_time_so_a_wrong_clock_does_not_matter() -> None:
    result = await joined(RECORDS)
    assert isinstance(result, control.Joined)
    body = partylog.body(result.records[-1])
    assert isinstance(body, partylog.Join)
    assert body.at == CHALLENGE.at


async def test_a_hello_proves_identity_and_invite_for_one_challenge_alone() -> None:
    async with lying([m.Refused(code="used", reason="")]) as liar:
        await control.join(invite(liar.url), identity(GUEST))
    hello = liar.hellos[0]
    assert isinstance(hello, m.Hello)
    assert m.is_authentic(hello, CHALLENGE.nonce)
    assert m.is_guest(hello, CHALLENGE.nonce)
    assert not m.is_authentic(hello, bytes(15) + b"x")
    assert not m.is_guest(hello, bytes(15) + b"x")
