"""The party's rules, record by record."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import partylog
from lanrage.protocols.partylog import EMPTY, Chain, Invalid, keys
from lanrage.protocols.partylog import rules as rules_module
from tests.protocols import party as p
from tests.protocols.party import ADA, BOB, CAT, DAN, DAY, NOON, Ticket, added, refused


def test_the_founder_is_the_first_member_and_admin() -> None:
    chain = p.founded()
    member = chain.members[ADA.peer]
    assert (member.address, member.admin, member.number) == ("10.66.0.1", True, 1)
    assert chain.party == partylog.party_of(p.genesis())
    assert partylog.key_of(chain.party) == bytes.fromhex(chain.head)


def test_a_guest_with_an_invite_becomes_a_member_with_the_next_address() -> None:
    chain = p.with_members(ADA, BOB)
    member = chain.members[BOB.peer]
    assert (member.address, member.admin, member.name) == ("10.66.0.2", False, "bob")
    assert member.address6.startswith("fd")
    assert member.wireguard == BOB.wireguard


def test_an_invite_for_one_is_used_by_one() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    after_bob = added(chain, p.join(chain, ticket, BOB))
    assert refused(after_bob, p.join(after_bob, ticket, CAT)) == "used"


def test_two_joins_that_race_for_one_place_in_the_chain_cannot_both_be_in_it() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    bob, cat = p.join(chain, ticket, BOB), p.join(chain, ticket, CAT)
    assert refused(added(chain, bob), cat) == "link"
    assert refused(added(chain, cat), bob) == "link"


def test_an_invite_for_two_is_used_by_two() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket, uses=2))
    for device in (BOB, CAT):
        chain = added(chain, p.join(chain, ticket, device))
    assert refused(chain, p.join(chain, ticket, DAN)) == "used"


def test_a_revoked_invite_lets_nobody_in() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    chain = added(chain, p.revoke(chain, ADA, ticket))
    assert refused(chain, p.join(chain, ticket, BOB)) == "revoked"


def test_an_invite_is_issued_once_so_that_nobody_can_make_a_used_one_new() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    chain = added(chain, p.join(chain, ticket, BOB))
    assert refused(chain, p.issue(chain, ticket)) == "used"
    assert refused(chain, p.issue(chain, ticket, BOB)) == "used"


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_genesis_has_a_nonce_of_one_size(size: int) -> None:
    record = partylog.genesis(
        ADA.signer,
        name="Friday",
        founder_name=ADA.name,
        wireguard=ADA.wireguard,
        nonce=bytes(size),
        at_ms=NOON,
    )
    assert refused(partylog.EMPTY, record) == "malformed"


@pytest.mark.parametrize("uses", [0, -1, partylog.USES_MAX + 1])
def test_an_invite_has_a_bounded_number_of_uses(uses: int) -> None:
    assert refused(p.founded(), p.issue(p.founded(), Ticket("x"), uses=uses)) == "uses"


def test_expiry_is_decided_by_the_join_and_earlier_by_whoever_has_a_clock() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    late, early = p.join(chain, ticket, BOB, at_ms=NOON + DAY + 1), p.join(chain, ticket, BOB)
    assert refused(chain, late) == "expired"
    assert refused(chain, early, now_ms=NOON + DAY + 1) == "expired"
    assert refused(chain, late, now_ms=NOON) == "expired"
    assert isinstance(partylog.verify(chain, early, now_ms=NOON + DAY), Chain)
    assert isinstance(partylog.verify(chain, early), Chain)


def test_without_the_invites_secret_nobody_joins() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket))
    assert refused(chain, p.join(chain, Ticket("guessed"), BOB)) == "unknown_invite"


def test_a_join_seen_on_the_wire_lets_nobody_else_in() -> None:
    ticket = Ticket("x")
    chain = added(p.founded(), p.issue(p.founded(), ticket, uses=2))
    seen = partylog.body(p.join(chain, ticket, BOB))
    assert isinstance(seen, partylog.Join)
    stolen = msgspec.structs.replace(
        seen, author_key=CAT.public, name="cat", wireguard=CAT.wireguard
    )
    assert refused(chain, partylog.records._sign(CAT.signer, stolen)) == "signature"


def test_a_join_for_one_party_is_not_a_join_for_another() -> None:
    ticket = Ticket("x")
    here = added(p.founded(), p.issue(p.founded(), ticket))
    there = added(p.founded(DAN), p.issue(p.founded(DAN), ticket, DAN))
    foreign = msgspec.structs.replace(there, party=here.party)
    assert refused(there, p.join(foreign, ticket, BOB)) == "signature"


def test_only_an_admin_kicks_and_renames_the_party() -> None:
    chain = p.with_members(ADA, BOB, CAT)
    assert refused(chain, p.kick(chain, BOB, CAT)) == "not_admin"
    assert refused(chain, p.rename_party(chain, BOB, "Bob's")) == "not_admin"
    assert added(chain, p.rename_party(chain, ADA, "Sunday")).name == "Sunday"


def test_who_was_kicked_stays_out_and_so_do_those_it_invited() -> None:
    mine, theirs = Ticket("mine"), Ticket("theirs")
    chain = p.with_members(ADA, BOB)
    chain = added(chain, p.issue(chain, theirs, BOB))
    chain = added(chain, p.kick(chain, ADA, BOB))
    assert chain.departed == {BOB.peer: "kicked"}
    assert BOB.peer not in chain.members
    assert refused(chain, p.join(chain, theirs, CAT)) == "revoked"
    chain = added(chain, p.issue(chain, mine))
    assert refused(chain, p.join(chain, mine, BOB)) == "kicked"
    assert refused(chain, p.leave(chain, BOB)) == "not_member"


def test_who_left_comes_back_to_its_old_address() -> None:
    chain = p.with_members(ADA, BOB, CAT)
    chain = added(chain, p.leave(chain, BOB))
    assert chain.departed == {BOB.peer: "left"}
    back = Ticket("back")
    chain = added(chain, p.issue(chain, back))
    chain = added(chain, p.join(chain, back, BOB))
    assert chain.members[BOB.peer].address == "10.66.0.2"
    assert chain.departed == {}
    assert chain.next_number == 4


def test_when_the_last_admin_leaves_the_oldest_member_is_admin() -> None:
    chain = p.with_members(ADA, BOB, CAT)
    chain = added(chain, p.leave(chain, ADA))
    assert [m.name for m in chain.members.values() if m.admin] == ["bob"]
    assert added(chain, p.kick(chain, BOB, CAT)).departed[CAT.peer] == "kicked"


def test_a_member_may_invite_and_revokes_only_its_own_invites() -> None:
    bobs, adas = Ticket("bobs"), Ticket("adas")
    chain = p.with_members(ADA, BOB)
    chain = added(chain, p.issue(chain, bobs, BOB))
    chain = added(chain, p.issue(chain, adas, ADA))
    assert refused(chain, p.revoke(chain, BOB, adas)) == "not_admin"
    assert added(chain, p.revoke(chain, BOB, bobs)).invites[bobs.id].revoked
    assert added(chain, p.revoke(chain, ADA, bobs)).invites[bobs.id].revoked


def test_a_stranger_writes_nothing() -> None:
    chain = p.founded()
    for record in (
        p.leave(chain, BOB),
        p.kick(chain, BOB, ADA),
        p.rename(chain, BOB, "bob"),
        p.rename_party(chain, BOB, "Bob's"),
        p.issue(chain, Ticket("x"), BOB),
        p.revoke(chain, BOB, Ticket("x")),
    ):
        assert refused(chain, record) == "not_member"


def test_names_are_unique_in_a_party_whatever_their_case() -> None:
    chain = p.with_members(ADA, BOB)
    assert refused(chain, p.rename(chain, BOB, "ADA")) == "name_taken"
    assert added(chain, p.rename(chain, BOB, "Bob")).members[BOB.peer].name == "Bob"


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "x" * 33, " ada", "ada ", "a\tb", "a\nb", "a\x00b", "\x7f", "a\u202eb"),
        *("a\u200db", "\u2066x", "\ufeffx", "e\u0301", "\ud800", "\ue000", "\u3164", "\u2028"),
        *("a\u00a0b", "\U000e0041", "\uffff", "\u061c", "\xad", "\u2800"),
    ],
)
def test_names_that_mislead_or_break_something_are_refused(name: str) -> None:
    assert not partylog.is_name(name)


@pytest.mark.parametrize("name", ["a", "x" * 32, "Łucja 🦊", "名前", "O'Neil; $(id)", "<b>", "مها"])
def test_other_names_are_anybodys_own_business(name: str) -> None:
    assert partylog.is_name(name)


@given(st.text(max_size=80))
def test_a_cleaned_name_is_a_name_and_cleaning_it_again_changes_nothing(text: str) -> None:
    name = partylog.clean_name(text)
    assert partylog.is_name(name)
    assert partylog.clean_name(name) == name


@given(st.lists(st.text(max_size=40), max_size=8))
def test_free_names_are_names_that_nobody_has(texts: list[str]) -> None:
    names: list[str] = []
    for text in texts:
        name = partylog.free_name(partylog.clean_name(text), names)
        assert partylog.is_name(name)
        assert name.lower() not in [each.lower() for each in names]
        names.append(name)


def test_small_order_keys_are_refused_wherever_they_enter() -> None:
    weak_ed, weak_x = (1).to_bytes(32, "little"), bytes(32)
    chain = p.with_members(ADA, BOB)
    ticket = Ticket("x")
    ticket.public = weak_ed
    assert refused(chain, p.issue(chain, ticket)) == "small_order"
    good = Ticket("y")
    chain = added(chain, p.issue(chain, good))
    assert refused(chain, p.join(chain, good, CAT, wireguard=weak_x)) == "small_order"
    body = partylog.body(p.genesis())
    assert body is not None
    forged = msgspec.structs.replace(body, author_key=weak_ed)
    assert refused(EMPTY, partylog.records._sign(ADA.signer, forged)) == "small_order"


def test_the_table_of_small_order_points_is_the_whole_torsion() -> None:
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime
    for y in keys._SMALL_Y:
        # Doubling y three times must end at the neutral element (y = 1).
        for _ in range(3):
            x2 = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
            y = (y * y + x2) * pow(2 - (y * y - x2), -1, prime) % prime
        assert y == 1
    for u in keys._SMALL_U:
        for _ in range(3):
            below = 4 * u * (u * u + 486662 * u + 1) % prime
            if below == 0:
                break
            u = (u * u - 1) ** 2 * pow(below, -1, prime) % prime
        assert below == 0, "doubling three times ends at infinity"


def test_another_members_wireguard_key_is_refused() -> None:
    ticket = Ticket("x")
    chain = p.with_members(ADA, BOB)
    chain = added(chain, p.issue(chain, ticket))
    assert refused(chain, p.join(chain, ticket, CAT, wireguard=BOB.wireguard)) == "key"


def test_any_changed_bit_is_noticed() -> None:
    records = p.story()
    chain = EMPTY
    for record in records:
        for at in range(0, len(record), 7):
            changed = bytearray(record)
            changed[at] ^= 1 << (at % 8)
            assert isinstance(partylog.verify(chain, bytes(changed)), Invalid), at
        chain = added(chain, record)


def test_a_record_of_a_newer_version_and_one_too_long_are_told_apart() -> None:
    assert refused(EMPTY, b"\x02" + p.genesis()[1:]) == "version"
    assert refused(EMPTY, p.genesis() + bytes(partylog.RECORD_MAX)) == "size"
    assert refused(EMPTY, b"") == "malformed"


def test_an_unknown_field_or_kind_is_refused_not_ignored() -> None:
    body = msgspec.msgpack.decode(p.genesis()[65:])
    for extra in ({"more": 1}, {"kind": "grant"}):
        encoded = msgspec.msgpack.encode({**body, **extra})
        signature = ADA.signer.sign(b"lanrage chain v1\0" + encoded)
        assert refused(EMPTY, b"\x01" + signature + encoded) == "malformed"


@settings(max_examples=300)
@given(st.binary(max_size=1200))
def test_garbage_is_refused_and_changes_nothing(record: bytes) -> None:
    chain = p.founded()
    assert isinstance(partylog.verify(chain, record), Invalid)
    assert partylog.apply(chain, record) is chain


def test_folding_verified_records_gives_what_verifying_gave() -> None:
    verified = partylog.extend(EMPTY, p.story())
    folded = EMPTY
    for record in p.story():
        folded = partylog.apply(folded, record)
    assert msgspec.json.encode(folded) == msgspec.json.encode(verified)


def test_folding_passes_over_what_does_not_belong() -> None:
    chain = EMPTY
    for record in p.story():
        chain = partylog.apply(chain, record)
        for other in p.story():
            if partylog.hash_of(other).hex() == chain.head:
                assert partylog.apply(chain, other) is chain


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_server_that_adds_alters_reorders_drops_or_repeats_is_found_out(
    data: st.DataObject,
) -> None:
    honest = p.story()
    shown = list(honest)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(shown) - 1))
        match data.draw(st.sampled_from(["drop", "swap", "repeat", "alter", "foreign"])):
            case "drop" if len(shown) > 1:
                del shown[at]
            case "swap":
                shown[at], shown[at - 1] = shown[at - 1], shown[at]
            case "repeat":
                shown.insert(at, shown[data.draw(st.integers(0, len(shown) - 1))])
            case "alter":
                where = data.draw(st.integers(0, len(shown[at]) - 1))
                bit = data.draw(st.integers(0, 7))
                changed = bytearray(shown[at])
                changed[where] ^= 1 << bit
                shown[at] = bytes(changed)
            case "foreign":
                shown.insert(at, p.genesis(DAN))
    chain = EMPTY
    for record in shown:
        result = partylog.verify(chain, record)
        if isinstance(result, Invalid):
            break
        chain = result
    # Whatever was accepted is a beginning of the truth, if it is of this party at all.
    if chain.party == partylog.party_of(honest[0]):
        assert chain == partylog.extend(EMPTY, honest[: chain.length])


def test_a_full_chain_leaves_room_for_kicks(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = p.with_members(ADA, BOB)
    monkeypatch.setattr(rules_module, "RECORDS_MAX", chain.length + rules_module.RESERVED)
    assert refused(chain, p.rename(chain, BOB, "bobby")) == "full"
    assert isinstance(partylog.verify(chain, p.kick(chain, ADA, BOB)), Chain)
    monkeypatch.setattr(rules_module, "RECORDS_MAX", chain.length)
    assert refused(chain, p.kick(chain, ADA, BOB)) == "full"


def test_addresses_are_distinct_and_never_end_in_0_or_255() -> None:
    given_out = [partylog.address(number) for number in range(1, 254 * 256 + 1)]
    assert len(set(given_out)) == len(given_out)
    assert given_out[0] == "10.66.0.1"
    assert given_out[254] == "10.66.1.1"
    assert given_out[-1] == "10.66.255.254"
    assert {int(each.rpartition(".")[2]) for each in given_out} == set(range(1, 255))


def test_ipv6_addresses_lie_in_the_partys_own_network() -> None:
    one, other = p.founded(ADA).party, p.founded(BOB).party
    assert partylog.network6(one) != partylog.network6(other)
    network = ipaddress.IPv6Network(partylog.network6(one))
    assert network.prefixlen == 64
    assert network.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    given_out = {partylog.address6(one, number) for number in range(1, 1000)}
    assert len(given_out) == 999
    assert all(ipaddress.IPv6Address(each) in network for each in given_out)


@given(st.binary(min_size=32, max_size=32))
def test_ids_read_back_to_the_bytes_they_were_written_from(raw: bytes) -> None:
    text = partylog.text_of(raw)
    assert partylog.key_of(text) == raw
    assert partylog.key_of(text.upper()) is None or text.upper() == text
    assert len(text) == 52


@given(st.text(max_size=60))
def test_ids_have_one_spelling(text: str) -> None:
    raw = partylog.key_of(text)
    assert raw is None or partylog.text_of(raw) == text
