"""Being connected to control for one party, over as many connections as that takes.

Dial, say hello, compare: a server that holds more sends it, one that holds less is given it, one
that knows nothing of the party (its data was lost) is given all, from the genesis on. Then read and
write until the connection ends, and from the start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from lanrage.control import messages as m
from lanrage.control.backoff import Backoff
from lanrage.control.holding import Holding
from lanrage.control.link import Link, dial, first
from lanrage.control.messages import Relay
from lanrage.control.notices import (
    Connected,
    ControlNotice,
    Disconnected,
    Diverged,
    Granted,
    Picked,
    Presence,
    Records,
    SignalArrived,
    Target,
)
from lanrage.control.refused import refusal
from lanrage.control.relays import HERE
from lanrage.identity import Identity
from lanrage.protocols import endpoint, partylog
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal

STEADY_S: Final = 5.0  # a connection that lasted this long makes the next retry quick again
WELCOME_S: Final = 5.0  # from hello to the server's answer
REFOUND_S: Final = 10.0  # so long a server that does not know the party waits for one that does
HURRY_S: Final = 1.5  # for an answer to a ping when the network may have changed
APPEND_S: Final = 10.0  # for one append, reconnecting included
APPEND_TRIES_MAX: Final = 16
MEASURED_MAX: Final = 8  # relays in one report
MEASURED_MAX_MS: Final = 10_000
SIGNALS_MAX: Final = 256  # signals waiting to be sent; the oldest go first
WHAT: Final = "Not done"

_Answer: TypeAlias = m.Appended | m.Conflict | m.Refused


class Session:
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
        self._held = Holding(target.chain, target.records)
        self._server_length = 0  # how much of our chain the server is known, or about, to have
        self._grown = asyncio.Event()  # we hold more than the server
        self._hurry = asyncio.Event()
        self._unknown: list[str] = []  # addresses whose server does not know the party
        self._away_since = asyncio.get_running_loop().time()
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
            if ended.url:
                self._away_since = loop.time()
            if loop.time() - began > STEADY_S and ended.url:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), backoff.next_s())

    async def _once(self) -> Disconnected:
        link = await self._stay() if self._joined_by is not None else await self._dialled()
        if isinstance(link, Refusal):
            return Disconnected("", link.why, link.code)
        jobs = (self._write(link), self._refill(link), self._watch(link))
        beside = [asyncio.create_task(job) for job in jobs]
        try:
            self._link = link
            self._connected.set()
            self._report(Connected(link.url))
            ended = await self._read(link)
            return Disconnected(link.url, ended.why, ended.code)
        finally:
            self._link = self._relays = self._told = None
            self._connected.clear()
            for task in beside:
                task.cancel()
            self._fail_answers()
            link.abort()

    async def _stay(self) -> Link:
        """On the connection of the join."""
        assert self._joined_by is not None
        link, self._joined_by = self._joined_by, None
        self._server_length = self._held.chain.length
        await link.send(m.Stay())
        return link

    async def _dialled(self) -> Link | Refusal:
        """A connection; begun anew whenever there is a hurry, since the network may be another."""
        while True:
            self._hurry.clear()
            dialling = asyncio.create_task(self._connection())
            hurried = asyncio.create_task(self._hurry.wait())
            taken = False
            try:
                await asyncio.wait({dialling, hurried}, return_when=asyncio.FIRST_COMPLETED)
                taken = dialling.done()
                if taken:
                    return dialling.result()
            finally:
                hurried.cancel()
                dialling.cancel()  # it hangs up what it has
                await asyncio.wait({dialling})
                late = None if taken or dialling.cancelled() else dialling.result()
                if isinstance(late, Link):
                    late.abort()

    async def _connection(self) -> Link | Refusal:
        self._unknown.clear()
        found = await first(self.urls, self._open, _hang_up)
        if isinstance(found, Refusal) and self._may_refound():
            genesis = await self._held.genesis()
            if genesis is not None:
                found = await first(
                    tuple(self._unknown), lambda url: self._open(url, genesis), _hang_up
                )
        if isinstance(found, Refusal):
            return found
        link, self._server_length = found
        return link

    def _may_refound(self) -> bool:
        """A server has lost our party. Another one may still have it, so that comes first."""
        away_s = asyncio.get_running_loop().time() - self._away_since
        return bool(self._unknown) and (set(self._unknown) == set(self.urls) or away_s > REFOUND_S)

    async def _open(self, url: str, genesis: bytes = b"") -> tuple[Link, int] | Refusal:
        """The connection, and how much of our chain its server has."""
        link = await dial(url)
        if isinstance(link, Refusal):
            return link
        chain = self._held.chain
        hello = m.hello(
            self._identity.signer,
            link.challenge.nonce,
            party=self.party,
            peer=self._identity.peer,
            length=chain.length,
            head=chain.head,
            genesis=genesis,
        )
        try:
            async with asyncio.timeout(WELCOME_S):
                answer = await link.greet(WHAT, hello)
        except TimeoutError:
            return refusal(WHAT, "timeout", "the control server did not answer")
        if isinstance(answer, Refusal):
            if answer.code == "diverged":
                self._report(Diverged(url, answer.why))
            if answer.code == "invite_foreign":  # in answer to a member: it knows no such party
                self._unknown.append(url)
            return answer
        return await self._compared(link, answer, chain)

    async def _compared(
        self, link: Link, welcome: m.Welcome, chain: Chain
    ) -> tuple[Link, int] | Refusal:
        """Where the server holds less than we said, it must be the beginning of what we hold."""
        wrong = "unfinished"
        try:
            wrong = ""
            if welcome.length < chain.length:
                wrong = "unfinished"
                wrong = await self._held.continues(welcome.length, welcome.head)
        finally:
            if wrong:
                link.abort()
        if not wrong:
            return link, min(welcome.length, chain.length)
        self._report(Diverged(link.url, wrong))
        return refusal(WHAT, "diverged", wrong)

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
                        return refusal(WHAT, "diverged", wrong)
                case m.Presence(online=online):
                    known = tuple(each for each in online if each in self._held.chain.members)
                    self._report(Presence(self.party, known))
                case m.Signal(sender=sender, sealed=sealed):
                    if sender in self._held.chain.members:
                        self._report(SignalArrived(sender, sealed))
                case m.Relays(relays=relays):
                    self._relays = frozenset(each.relay for each in relays)
                    self._report(Granted(tuple(_reached(each, link.host) for each in relays)))
                    self.measured(self._rtts_ms)
                case m.Picks(picks=picks):
                    self._report(Picked(picks))
                case m.Refused(id=0, code=code, reason=reason):
                    if code == "diverged":
                        self._report(Diverged(link.url, reason))
                    return refusal(WHAT, code, reason)
                case m.Appended() | m.Conflict() | m.Refused():
                    self._answer(frame.id, frame)  # a refill has no id, and waits for no answer
                case m.Welcome() | m.Challenge():
                    return refusal(WHAT, "garbage", "the control server broke the protocol")

    def _take(self, after: int, records: tuple[bytes, ...]) -> str | None:
        """What is wrong with these records; None if they were taken and handed on."""
        before = self._held.chain.length
        fresh = self._held.take(after, records)
        if isinstance(fresh, str):
            return fresh
        self._server_length = max(self._server_length, after + len(records))
        if fresh:
            self._report(Records(self.party, before, tuple(fresh)))
        return None

    def adopt(self, after: int, records: Sequence[bytes]) -> None:
        if not isinstance(self._held.take(after, records), str):
            self._grown.set()

    async def _refill(self, link: Link) -> None:
        """Give the server what it lacks of our chain, now and whenever that grows without it."""
        while True:
            self._grown.clear()
            while page := self._held.since(self._server_length, m.PAGE):
                after = self._server_length
                self._server_length += len(page)
                await link.send(m.Refill(after=after, records=page))
            await self._grown.wait()

    def hurry(self) -> None:
        self._hurry.set()

    async def _watch(self, link: Link) -> None:
        """When there is a hurry, hang up unless the server answers at once."""
        while await self._hurry.wait():
            self._hurry.clear()
            if not await link.answers(HURRY_S):
                self._hurry.set()  # so that dialling does not wait
                link.abort()
                return

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
                    result = await self._append(build(self._held.chain), tried)
                    # A connection may break after control has stored the record but before it
                    # said so: then the chain shows it, and repeating it would be wrong.
                    if not tried.isdisjoint(self._held.heads):
                        return self._held.chain
                    if result is not None:
                        return result
        except TimeoutError:
            return refusal(WHAT, "timeout", "the party's control does not answer")
        return refusal(WHAT, "busy", "too many others change the party at this moment")

    async def _append(self, record: bytes | Invalid, tried: set[str]) -> Refusal | None:
        """One try; None: it is in the chain, the chain has moved on, or the connection broke."""
        checked = (
            record if isinstance(record, Invalid) else partylog.verify(self._held.chain, record)
        )
        if isinstance(checked, Invalid):
            return refusal(WHAT, checked.code, checked.reason)
        assert isinstance(record, bytes)
        await self._connected.wait()
        tried.add(checked.head)
        answer = await self._ask(record)
        if isinstance(answer, m.Refused):
            return refusal(WHAT, answer.code, answer.reason)
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


def _hang_up(extra: tuple[Link, int]) -> None:
    extra[0].abort()


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
