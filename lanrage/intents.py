"""What a person asks for that needs a signature and control's consent, carried out.

Each intent is checked against the state, signed with this device's key, appended at control by
compare-and-swap, and done when our own log has it: the caller's answer comes after the commit. One
intent at a time. If any step is refused, nothing of it remains.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanrage import commands as c
from lanrage.adapters.addresses import addresses
from lanrage.control import client as control
from lanrage.decide import check, find_invite, find_member
from lanrage.node import Node
from lanrage.pact import Pacts
from lanrage.protocols import endpoint, partylog
from lanrage.protocols import invite as invites
from lanrage.protocols import pact as codes
from lanrage.protocols.partylog import Chain, Invalid, Member
from lanrage.refusal import Refusal
from profiles.catalog import Catalog
from projections.mesh import Mesh, port_name

COMMIT_TIMEOUT_S = 10.0  # from control's consent to our own log having it
LEAVE_TIMEOUT_S = 3.0  # how long leaving waits for control before it goes on alone

Result = dict[str, Any] | Refusal


class Intents:
    """`submit` of web.port.Node: the API's and the command line's way to change anything."""

    def __init__(self, node: Node, catalog: Catalog) -> None:
        self._node = node
        self._catalog = catalog
        self._pacts = Pacts(node)
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Result]] = set()

    async def submit(self, command: c.Asked) -> Result:
        """Goes on if whoever asked does not wait; ends unfinished only by `close`."""
        task = asyncio.create_task(self._submit(command))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait({task})
        return _stopping() if task.cancelled() else task.result()

    async def close(self) -> None:
        """What is being carried out is given up, and whoever asked is told so."""
        running = set(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _submit(self, command: c.Asked) -> Result:
        async with self._one_at_a_time:
            refused = check(self._node.state_now, command)
            if refused is not None:
                return refused
            return await self._carry_out(command)

    async def _carry_out(self, command: c.Asked) -> Result:
        match command:
            case c.Create(name=name, uses=uses):
                return await self._create(name, uses)
            case c.Join(link=link, public=public) if codes.is_code(link):
                return await self._answer(link, public)
            case c.Join(link=link):
                return await self._join(link)
            case c.Offer(public=public, expires_s=expires_s):
                return await self._offer(public, expires_s)
            case c.Accept(code=code):
                return await self._pacts.accept(code) or {"accepted": True}
            case c.Invite(uses=uses, expires_s=expires_s):
                return await self._invite(uses, expires_s)
            case c.RevokeInvite(invite=text):
                return await self._revoke(text)
            case c.Leave():
                return await self._leave()
            case c.Kick(peer=text):
                return await self._kick(text)
            case c.Rename(name=name):
                return await self._rename(name)
            case c.ChooseProfile(profile=profile):
                return await self.choose_profile(profile, "by the player")

    # --- entering and leaving ------------------------------------------------------------------

    async def _create(self, name: str, uses: int) -> Result:
        me = self._node.identity
        name = name.strip()
        if not partylog.is_name(name):
            return _bad_name("create the party")
        record = partylog.genesis(
            me.signer,
            name=name,
            founder_name=partylog.clean_name(me.name),
            wireguard=me.wireguard_public,
            nonce=secrets.token_bytes(16),
            at_ms=_now_ms(),
        )
        embedded = not self._node.options.control
        if embedded:
            refused = await self._node.serve_control()
            if refused is not None:
                return refused
        refused = await self._found(record, embedded)
        if refused is not None:
            if embedded:
                await self._node.stop_serving()
            return refused
        made = await self._invite(uses, c.INVITE_LIFE_S)
        if isinstance(made, Refusal):  # a party that nobody can enter is not left standing
            await self._node.tell(c.ExitParty(reason="its first invite could not be made"))
        return made

    async def _found(self, genesis: bytes, embedded: bool) -> Refusal | None:
        url = self._node.control_url if embedded else self._node.options.control
        created = await control.create(url, self._node.identity, genesis)
        if isinstance(created, Refusal):
            return created
        return await self._node.tell(
            c.Enter(
                party=created.party,
                control=(url,),
                embedded=embedded,
                records=created.records,
            )
        )

    async def _join(self, link: str) -> Result:
        parsed = invites.parse(link)
        if isinstance(parsed, Invalid):
            return _bad_link(parsed)
        # Our mapped address is asked for while control is still being talked to.
        self._node.use_servers(parsed.control)
        me = self._node.identity
        joined = await self._node.client.join(parsed)
        if isinstance(joined, Refusal):
            self._node.use_servers(())
            await self._node.tell(c.FailJoin(reason=joined.why))
            return joined
        rest = tuple(each for each in parsed.control if each != joined.url)
        refused = await self._node.tell(
            c.Enter(
                party=joined.party,
                control=(joined.url, *rest),
                embedded=False,
                records=joined.records,
            )
        )
        if refused is not None:
            return refused
        state = self._node.state_now
        member = state.chain.members[me.peer]
        return {
            "party": state.party,
            "name": state.chain.name,
            "address": member.address,
            "address6": member.address6,
        }

    # --- without any server ---------------------------------------------------------------------

    async def _offer(self, public: str, expires_s: int) -> Result:
        if not self._node.state_now.control.embedded:
            return Refusal(
                "not_embedded",
                "Cannot offer",
                "this computer is not the party's control",
                "Use `lanrage invite`, or let the host make the offer.",
            )
        places = self._pacts.places(public, "Cannot offer")
        if isinstance(places, Refusal):
            return places
        secret = secrets.token_bytes(codes.SECRET_BYTES)
        expires_at = _now_ms() // 1000 + expires_s
        issued = await self._issue(codes.invite_seed(secret), 1, expires_at * 1000)
        if isinstance(issued, Refusal):
            return issued
        code = await self._pacts.offer(secret, places, expires_at)
        return {"code": code, "expires_at": expires_at * 1000, "id": issued}

    async def _answer(self, code: str, public: str) -> Result:
        answered = await self._pacts.answer(code, public)
        return answered if isinstance(answered, Refusal) else {"answer": answered}

    async def _leave(self) -> Result:
        state = self._node.state_now
        me = self._node.identity
        told = await self._append(
            lambda chain: partylog.leave(me.signer, chain, at_ms=_now_ms()), LEAVE_TIMEOUT_S
        )
        refused = await self._node.tell(c.ExitParty(reason="left"))
        if refused is not None:
            return refused
        return {"party": state.party, "told": not isinstance(told, Refusal)}

    # --- changes to the chain ------------------------------------------------------------------

    async def _invite(self, uses: int, expires_s: int) -> Result:
        where = self._public_control(self._node.state_now)
        if not where:
            return Refusal(
                "no_network",
                "Cannot invite",
                "this computer has no address at which a friend could reach it",
                "Connect it to a network, and try again.",
            )
        seed = secrets.token_bytes(32)
        expires_at = _now_ms() + expires_s * 1000
        issued = await self._issue(seed, uses, expires_at)
        if isinstance(issued, Refusal):
            return issued
        state = self._node.state_now
        link = invites.Invite(
            party=state.party,
            name=state.chain.name,
            seed=seed,
            head=state.chain.head,
            length=state.chain.length,
            control=where,
        )
        return {
            "party": state.party,
            "name": state.chain.name,
            "invite": invites.link(link),
            "id": issued,
            "uses": uses,
            "expires_at": expires_at,
        }

    async def _issue(self, seed: bytes, uses: int, expires_at: int) -> str | Refusal:
        """The id of an invite with this seed, once it is in the chain."""
        me = self._node.identity
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        done = await self._append(
            lambda chain: partylog.issue_invite(
                me.signer,
                chain,
                invite_public=public,
                uses=uses,
                expires_at=expires_at,
                at_ms=_now_ms(),
            )
        )
        return done if isinstance(done, Refusal) else partylog.text_of(public)

    def _public_control(self, state: Mesh) -> tuple[str, ...]:
        """Where a guest finds control. Ours, if embedded, is where `--advertise` says, where the
        router leads to it, and at this computer's own addresses."""
        if not state.control.embedded:
            return state.control.urls[: invites.CONTROL_MAX]
        options, port = self._node.options, self._node.control_port
        own = [f"ws://{endpoint.text((each, port))}" for each in addresses(options.interface)]
        opened = state.nat.ports.get(port_name("tcp", port), "")
        outside = [f"ws://{opened}"] if opened else []
        return tuple(dict.fromkeys((*options.advertise, *outside, *own)))[: invites.CONTROL_MAX]

    async def _revoke(self, text: str) -> Result:
        me = self._node.identity
        invite = find_invite(self._node.state_now, text)
        if isinstance(invite, Refusal):
            return invite
        public = partylog.key_of(invite)
        assert public is not None, "the reducer keeps only invites whose key it could read"
        done = await self._append(
            lambda chain: partylog.revoke_invite(
                me.signer, chain, invite_public=public, at_ms=_now_ms()
            )
        )
        return done if isinstance(done, Refusal) else {"revoked": invite}

    async def _kick(self, text: str) -> Result:
        me = self._node.identity
        member = find_member(self._node.state_now, text)
        if isinstance(member, Refusal):
            return member
        target: Member = member
        if not self._node.state_now.control.connected and not self._node.gossip.control_elsewhere:
            return await self._kick_without_control(target)
        done = await self._append(
            lambda chain: partylog.kick(me.signer, chain, peer=target.peer, at_ms=_now_ms())
        )
        return done if isinstance(done, Refusal) else {"kicked": target.peer, "name": target.name}

    async def _kick_without_control(self, target: Member) -> Result:
        """Nobody else may append meanwhile (only an admin may kick), so the record stands: members
        have it from us inside the tunnels, control when it is back."""
        me, chain = self._node.identity, self._node.state_now.chain
        record = partylog.kick(me.signer, chain, peer=target.peer, at_ms=_now_ms())
        if isinstance(record, Invalid):
            return Refusal("kick", f"Cannot kick {target.name}", record.reason, "")
        refused = await self._node.tell(
            c.AcceptRecords(party=chain.party, after=chain.length, records=(record,))
        )
        if refused is not None:
            return refused
        self._node.client.adopt(chain.length, (record,))
        return {"kicked": target.peer, "name": target.name, "control": "told later"}

    async def _rename(self, name: str) -> Result:
        me = self._node.identity
        name = name.strip()
        if not partylog.is_name(name):
            return _bad_name("rename")
        done = await self._append(
            lambda chain: partylog.rename_member(me.signer, chain, name=name, at_ms=_now_ms())
        )
        return done if isinstance(done, Refusal) else {"name": name}

    async def _append(
        self, build: Callable[[Chain], bytes | Invalid], timeout_s: float = COMMIT_TIMEOUT_S
    ) -> Chain | Refusal:
        """Sign and append one record; done when our own log has it."""
        chain: Chain | Refusal | None = None
        try:
            async with asyncio.timeout(timeout_s):
                chain = await self._node.client.append(build)
                if isinstance(chain, Chain):
                    await self._until_length(chain.length)
                return chain
        except TimeoutError:
            return _unanswered() if chain is None else _unstored()

    async def _until_length(self, length: int) -> None:
        """Until our log has the chain up to `length`, or we are out of the party."""
        seen = 0
        while True:
            state = self._node.state_now
            if not state.party or state.chain.length >= length:
                return
            seen = await self._node.changed(seen)

    # --- profiles ------------------------------------------------------------------------------

    async def choose_profile(self, profile_id: str, reason: str) -> Result:
        found = self._catalog.get(profile_id)
        if found is None:
            return Refusal(
                "no_profile",
                "Cannot use that profile",
                f"there is none called {profile_id!r}",
                "See `lanrage profiles list`.",
            )
        refused = await self._node.tell(
            c.NoteProfile(
                profile=found.id, reason=reason, mtu=found.mtu, keepalive_s=found.keepalive_s
            )
        )
        return refused or {"profile": found.id, "mtu": found.mtu}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _stopping() -> Refusal:
    return Refusal("stopping", "Not done", "LANrage is stopping", "Start it: `sudo lanrage up`.")


def _unanswered() -> Refusal:
    return Refusal(
        "control_timeout",
        "Not done",
        "the party's control did not answer in time",
        "Try again when `lanrage status` shows it connected.",
    )


def _unstored() -> Refusal:
    return Refusal(
        "not_stored",
        "Done for the party, but not on this computer",
        "its own log could not take it yet",
        "Check that its disk is not full; it is tried again by itself.",
    )


def _bad_name(doing: str) -> Refusal:
    return Refusal(
        "bad_name",
        f"Cannot {doing}",
        f"a name has 1 to {partylog.NAME_MAX} printable characters and no space at its ends",
        "Choose another.",
    )


def _bad_link(invalid: Invalid) -> Refusal:
    return Refusal(
        f"invite_{invalid.code}",
        "Cannot join",
        invalid.reason,
        "Ask the host for a link again and copy it whole: `lanrage invite`.",
    )
