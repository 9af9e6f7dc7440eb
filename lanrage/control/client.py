"""The member's side of control: stay connected for one party, for ever, without being asked twice.

Level-triggered: `want` says which party; the client connects, proves who it is, resumes after the
part of the chain it holds, and comes back by itself whenever the connection ends. It verifies every
record before it hands it on, so a dishonest server shows here, and the node never sees what it made
up. What it reports are notices; what they mean is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from lanrage.control import messages as m
from lanrage.control.backoff import Backoff
from lanrage.control.entry import Joined, create, enter, join
from lanrage.control.link import Link, dial, first
from lanrage.control.messages import Pick, Relay
from lanrage.control.refused import refusal
from lanrage.control.relays import HERE
from lanrage.identity import Identity
from lanrage.protocols import endpoint, partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal

__all__ = [
    "Connected",
    "ControlClient",
    "ControlNotice",
    "Disconnected",
    "Diverged",
    "Granted",
    "Joined",
    "Picked",
    "Presence",
    "Records",
    "Relay",
    "SignalArrived",
    "Target",
    "create",
    "join",
]

STEADY_S: Final = 5.0  # a connection that lasted this long makes the next retry quick again
WELCOME_S: Final = 5.0  # from hello to the server's answer
APPEND_S: Final = 10.0  # for one append, reconnecting included
APPEND_TRIES_MAX: Final = 16
MEASURED_MAX: Final = 8  # relays in one report
MEASURED_MAX_MS: Final = 10_000
SIGNALS_MAX: Final = 256  # signals waiting to be sent; the oldest go first
_WHAT: Final = "Not done"


class Target(msgspec.Struct, frozen=True):
    """The party to be connected for, where, and how much of its chain is already ours."""

    party: str
    urls: tuple[str, ...]
    chain: Chain


class Connected(msgspec.Struct, frozen=True):
    url: str


class Disconnected(msgspec.Struct, frozen=True):
    """Also for every attempt that failed, with why."""

    url: str
    reason: str
    code: str = ""


class Records(msgspec.Struct, frozen=True):
    """Chain records that follow position `after`, each verified by the client."""

    party: str
    after: int
    records: tuple[bytes, ...]


class Diverged(msgspec.Struct, frozen=True):
    """Control showed a history that contradicts ours, or cannot be verified; nothing of it was
    taken over. Follows at most once a connection, before its `Disconnected`."""

    url: str
    reason: str


class Presence(msgspec.Struct, frozen=True):
    """The whole list of members connected to control, ourselves included."""

    party: str
    online: tuple[str, ...]


class Granted(msgspec.Struct, frozen=True):
    """All relays that we may use now, nearest first, with our tickets."""

    relays: tuple[Relay, ...]


class Picked(msgspec.Struct, frozen=True):
    """Control's choice of a relay for each of our pairs."""

    picks: tuple[Pick, ...]


class SignalArrived(msgspec.Struct, frozen=True):
    sender: str
    sealed: bytes


ControlNotice: TypeAlias = (
    Connected | Disconnected | Records | Diverged | Presence | Granted | Picked | SignalArrived
)
_Answer: TypeAlias = m.Appended | m.Conflict | m.Refused


class ControlClient:
    def __init__(self, identity: Identity, deliver: Callable[[ControlNotice], None]) -> None:
        self._identity = identity
        self._deliver = deliver
        self._session: _Session | None = None
        self._rtts_ms: dict[str, int] = {}
        self._kept: tuple[Joined, Link] | None = None  # from a join, for the session that follows

    async def join(self, invite: Invite, name: str | None = None) -> Joined | Refusal:
        """As the function `join`; the connection is kept for the `want` that follows, which saves
        three round trips."""
        entered = await enter(invite, self._identity, name)
        if isinstance(entered, Refusal):
            return entered
        self._drop_kept()
        self._kept = entered
        return entered[0]

    def _drop_kept(self) -> None:
        if self._kept is not None:
            self._kept[1].abort()
        self._kept = None

    def want(self, target: Target | None) -> None:
        """Call it as often as you like: the same party at the same addresses changes nothing. None
        disconnects."""
        now = self._session
        if now and target and (now.party, now.urls) == (target.party, target.urls):
            return
        if now is not None:
            now.stop()
        self._session = None
        link = self._fitting(target)
        self._drop_kept()
        if target is not None:
            self._session = _Session(self._identity, target, self._deliver, link)
            self._session.measured(self._rtts_ms)

    def _fitting(self, target: Target | None) -> Link | None:
        """The connection of the join that led to this target, if it is just at its chain."""
        if self._kept is None or target is None:
            return None
        joined, link = self._kept
        if partylog.hash_of(joined.records[-1]).hex() != target.chain.head:
            return None
        self._kept = None
        return link

    async def append(self, build: Callable[[Chain], bytes | Invalid]) -> Chain | Refusal:
        """Compare-and-swap: `build` signs a record on the chain it is given; when others were
        faster it is called again with the new chain. `Records` is delivered before this returns."""
        if self._session is None:
            return refusal(_WHAT, "not_member", "in no party")
        return await self._session.append(build)

    def signal(self, to: str, sealed: bytes) -> None:
        """Best effort; dropped while not connected."""
        if self._session is not None:
            self._session.signal(to, sealed)

    def measured(self, rtts_ms: Mapping[str, int]) -> None:
        """Round trips to relays by name, all that are known: told to control now and after each
        reconnect."""
        self._rtts_ms = dict(rtts_ms)
        if self._session is not None:
            self._session.measured(self._rtts_ms)

    async def close(self) -> None:
        self._drop_kept()
        session, self._session = self._session, None
        if session is not None:
            session.stop()
            await session.stopped()


class _Session:
    """Being connected for one party, over as many connections as that takes."""

    def __init__(
        self,
        identity: Identity,
        target: Target,
        deliver: Callable[[ControlNotice], None],
        link: Link | None,
    ) -> None:
        self.party: Final = target.party
        self.urls: Final = target.urls
        self._identity = identity
        self._tell = deliver
        self._chain = target.chain
        self._heads: dict[str, int] = {}  # of records seen since, by hash
        self._joined_by = link  # already open, and used first
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._outbox: asyncio.Queue[m.FromNode] = asyncio.Queue(SIGNALS_MAX)
        self._rtts_ms: Mapping[str, int] = {}
        self._relays: frozenset[str] | None = None  # as granted over this connection
        self._told: m.Measured | None = None  # over this connection
        self._answers: dict[int, asyncio.Future[_Answer | None]] = {}
        self._appends = 0
        self._one_append = asyncio.Lock()  # our own would only race each other
        self._stopped = False
        self._task = asyncio.create_task(self._run(), name="control client")
        self._task.add_done_callback(_tell_bug)

    def stop(self) -> None:
        self._stopped = True
        self._task.cancel()
        if self._joined_by is not None:
            self._joined_by.abort()

    async def stopped(self) -> None:
        await asyncio.wait([self._task])

    def _report(self, notice: ControlNotice) -> None:
        if not self._stopped:
            self._tell(notice)

    # --- connecting ---------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            began = loop.time()
            ended = await self._once()
            self._report(Disconnected(ended.url, ended.reason, ended.code))
            if loop.time() - began > STEADY_S and ended.url:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _once(self) -> Disconnected:
        link = await self._connection()
        if isinstance(link, Refusal):
            return Disconnected("", link.why, link.code)
        writer = asyncio.create_task(self._write(link))
        try:
            self._link = link
            self._connected.set()
            self._report(Connected(link.url))
            ended = await self._read(link)
            return Disconnected(link.url, ended.why, ended.code)
        finally:
            self._link = self._relays = self._told = None
            self._connected.clear()
            writer.cancel()
            self._fail_answers()
            link.abort()

    async def _connection(self) -> Link | Refusal:
        if self._joined_by is None:
            return await first(self.urls, self._open, lambda extra: extra.abort())
        await self._joined_by.send(m.Stay())
        link, self._joined_by = self._joined_by, None
        return link

    async def _open(self, url: str) -> Link | Refusal:
        link = await dial(url)
        if isinstance(link, Refusal):
            return link
        hello = m.hello(
            self._identity.signer,
            link.challenge.nonce,
            party=self.party,
            peer=self._identity.peer,
            length=self._chain.length,
            head=self._chain.head,
        )
        try:
            async with asyncio.timeout(WELCOME_S):
                refused = await link.greet(_WHAT, hello)
        except TimeoutError:
            return refusal(_WHAT, "timeout", "the control server did not answer")
        if refused is not None and refused.code == "diverged":
            self._report(Diverged(url, refused.why))
        return refused or link

    # --- while connected ----------------------------------------------------------------------

    async def _read(self, link: Link) -> Refusal:
        """Until the connection ends; why it did."""
        while True:
            frame = await link.recv()
            match frame:
                case Refusal():
                    return frame
                case m.Records(after=after, records=records):
                    wrong = self._take(after, records)
                    if wrong is not None:
                        self._report(Diverged(link.url, wrong))
                        return refusal(_WHAT, "diverged", wrong)
                case m.Presence(online=online):
                    known = tuple(each for each in online if each in self._chain.members)
                    self._report(Presence(self.party, known))
                case m.Signal(sender=sender, sealed=sealed):
                    if sender in self._chain.members:
                        self._report(SignalArrived(sender, sealed))
                case m.Relays(relays=relays):
                    self._relays = frozenset(each.relay for each in relays)
                    self._report(Granted(tuple(_reached(each, link.host) for each in relays)))
                    self.measured(self._rtts_ms)
                case m.Picks(picks=picks):
                    self._report(Picked(picks))
                case m.Refused(id=0, code=code, reason=reason):
                    return refusal(_WHAT, code, reason)
                case m.Appended() | m.Conflict() | m.Refused():
                    self._answer(frame.id, frame)
                case m.Welcome() | m.Challenge():
                    return refusal(_WHAT, "garbage", "the control server broke the protocol")

    def _take(self, after: int, records: tuple[bytes, ...]) -> str | None:
        """What is wrong with these records; None if they were taken and handed on."""
        if after != self._chain.length:
            return "it left out a part of the party's history"
        chain = partylog.extend(self._chain, records)
        if isinstance(chain, Invalid):
            return f"it shows a false history: {chain.reason}"
        for number, record in enumerate(records, after + 1):
            self._heads[partylog.hash_of(record).hex()] = number
        self._chain = chain
        self._report(Records(self.party, after, records))
        return None

    async def _write(self, link: Link) -> None:
        while True:
            await link.send(await self._outbox.get())

    # --- asking -------------------------------------------------------------------------------

    def signal(self, to: str, sealed: bytes) -> None:
        if self._link is None:
            return
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(m.Send(to=to, sealed=sealed))

    def measured(self, rtts_ms: Mapping[str, int]) -> None:
        """A server that has granted nothing does not know what this means."""
        self._rtts_ms = rtts_ms
        if self._relays is None:
            return
        known = {
            relay: max(0, min(rtt, MEASURED_MAX_MS))
            for relay, rtt in rtts_ms.items()
            if relay in self._relays
        }
        frame = m.Measured(rtts_ms=dict(list(known.items())[:MEASURED_MAX]))
        if frame == (self._told or m.Measured(rtts_ms={})) or self._outbox.full():
            return
        self._told = frame
        self._outbox.put_nowait(frame)

    async def append(self, build: Callable[[Chain], bytes | Invalid]) -> Chain | Refusal:
        tried: set[str] = set()
        try:
            async with asyncio.timeout(APPEND_S), self._one_append:
                for _ in range(APPEND_TRIES_MAX):
                    result = await self._append(build(self._chain), tried)
                    # A connection may break after control has stored the record but before it
                    # said so: then the chain shows it, and repeating it would be wrong.
                    if not tried.isdisjoint(self._heads):
                        return self._chain
                    if result is not None:
                        return result
        except TimeoutError:
            return refusal(_WHAT, "timeout", "the party's control does not answer")
        return refusal(_WHAT, "busy", "too many others change the party at this moment")

    async def _append(self, record: bytes | Invalid, tried: set[str]) -> Refusal | None:
        """One try; None: it is in the chain, the chain has moved on, or the connection broke."""
        checked = record if isinstance(record, Invalid) else partylog.verify(self._chain, record)
        if isinstance(checked, Invalid):
            return refusal(_WHAT, checked.code, checked.reason)
        assert isinstance(record, bytes)
        await self._connected.wait()
        tried.add(checked.head)
        answer = await self._ask(record)
        if isinstance(answer, m.Refused):
            return refusal(_WHAT, answer.code, answer.reason)
        return None

    async def _ask(self, record: bytes) -> _Answer | None:
        link = self._link
        if link is None:
            return None
        self._appends += 1
        number = self._appends
        future: asyncio.Future[_Answer | None] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        try:
            await link.send(m.Append(id=number, record=record))
            return await future
        finally:
            self._answers.pop(number, None)

    def _answer(self, number: int, answer: _Answer | None) -> None:
        future = self._answers.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def _fail_answers(self) -> None:
        for number in list(self._answers):
            self._answer(number, None)


def _reached(relay: Relay, host: str) -> Relay:
    """A relay on control's computer, which cannot know its own address, is where we reach it."""
    here = f"[{host}]" if ":" in host else host
    placed = tuple(
        each.replace(HERE, here, 1) if each.startswith(f"{HERE}:") else each
        for each in relay.addresses
    )
    usable = tuple(dict.fromkeys(each for each in placed if endpoint.parse(each) is not None))
    return msgspec.structs.replace(
        relay, addresses=usable, tcp=relay.tcp.replace(f"//{HERE}:", f"//{here}:")
    )


def _tell_bug(task: asyncio.Task[None]) -> None:
    """The task never ends by itself: if it did, everybody would wait for control for ever."""
    bug = None if task.cancelled() else task.exception()
    if bug is not None:
        task.get_loop().call_exception_handler(
            {"message": "the control client failed", "exception": bug, "task": task}
        )
