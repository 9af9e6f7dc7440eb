"""The one loop: input -> decide -> append -> fold -> plan -> perform.

Everything that happens to this node enters `_inbox` as a command. The loop takes what is there as
one batch, decides each command on the state the one before left, appends all events in one
transaction, and only if that committed takes the new state, answers the callers, and performs
whatever `plan` finds to be different between what ought to be and what is.

Nothing else changes the state, and nothing else performs effects on the tunnel and control. What a
person asks for that needs signing or a server's consent is in `intents.py`; it ends up here as a
command like everything else. Figures that change every second (round trips, bytes) are kept in
`_live`, beside the state, and are never events.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from events.base import Event, PeerId, Stored
from events.log import Log
from events.peer import Candidate
from lanrage import commands as c
from lanrage import effects as e
from lanrage import gossip
from lanrage.adapters import nat_behaviour, nat_label
from lanrage.control import client as control
from lanrage.control.limits import Bucket
from lanrage.control.secret_file import NAME as SECRET
from lanrage.control.secret_file import relay_secret
from lanrage.control.server import ControlServer
from lanrage.control.servers import servers_of
from lanrage.control.stored import records_after
from lanrage.decide import decide
from lanrage.identity import Identity
from lanrage.plan import plan
from lanrage.protocols import endpoint, seal
from lanrage.refusal import Refusal
from lanrage.reported import reported
from lanrage.surroundings import Surroundings
from lanrage.tunnel import messages as m
from lanrage.tunnel.link import Link
from projections import lobby, mesh
from projections.wanted import NOTHING, STUN, Wanted, wanted

CONTROL_LOG = "control.sqlite"
CONTROL_LOCK = "control.lock"
INBOX_MAX = 4096
BATCH_MAX = 256
CLASSIFY_DELAY_S = 1.0  # its own packets must not compete with a join
LABEL_DELAY_S = 5.0  # the classic NAT test must not compete with a join
RESOLVE_RETRY_S = 10.0  # for a name that could not be resolved: the network may come later
FULL_DISK_RETRY_S = 1.0
CLOSE_TIMEOUT_S = 5.0
SIGNALS_PER_S = 0.5  # from one member: its addresses do not change more often for long
SIGNALS_BURST = 30.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How this node was started."""

    control: str = ""  # URL of a control server; empty: embed one
    control_listen: str = "[::]:8667"  # of the embedded one
    advertise: tuple[str, ...] = ()  # where guests find it, besides this computer's own addresses
    interface: str = "lanrage0"
    port: int  # of the tunnel's UDP socket
    volunteer: bool = True  # forward for members that cannot reach each other
    port_search: bool = False
    port_mapping: bool = True  # ask the router to open our ports
    state_dir: Path


Answer = asyncio.Future[Refusal | None]
Input = c.Reported | control.SignalArrived


class Node:
    def __init__(
        self,
        *,
        log: Log,
        identity: Identity,
        link: Link,
        options: Options,
        session: str,
        state: mesh.Mesh,
    ) -> None:
        self.identity = identity
        self.options = options
        self.state_now = state
        self.client = control.ControlClient(identity, self._on_control)
        self.gossip = gossip.Gossip(identity.peer, self._on_gossip, self._records)
        self._log = log
        self._link = link
        self._session = session
        self._inbox: asyncio.Queue[tuple[Input, Answer | None]] = asyncio.Queue(INBOX_MAX)
        self._actual: Wanted = NOTHING
        self._server: ControlServer | None = None
        self._server_log: Log | None = None
        self._live: dict[PeerId, lobby.Live] = {}
        self._drops: dict[str, int] = {}
        self._relay_rtts_ms: dict[str, int] = {}
        self._version = 1
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._signals: dict[PeerId, Bucket] = {}  # of members only
        self._stun: tuple[str, ...] = ()  # servers that answer STUN, "ip:port"
        self._behaviour_task: asyncio.Task[None] | None = None
        self._label_task: asyncio.Task[None] | None = None
        self._servers_task: asyncio.Task[None] | None = None
        # Where a router leads to our control, it probably leads to the tunnel, too: by a rule of
        # its own, or because it keeps the port of what we send.
        outside = [endpoint.parse(each) for each in options.advertise]
        self._surroundings = Surroundings(
            interface=options.interface,
            port=options.port,
            forwarded=[each[0] for each in outside if each is not None],
            secret=identity.secret("surroundings"),
            report=self.report,
            moved=self._moved,
        )
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- what the web room sees (web.port.Node) ------------------------------------------------

    @property
    def head(self) -> int:
        return self._log.head

    def status(self) -> lobby.Status:
        return lobby.status(self.state_now, self._live)

    def state(self) -> bytes:
        return mesh.canonical(self.state_now)

    async def read(self, after: int, limit: int, type_glob: str | None = None) -> Sequence[Stored]:
        return await self._log.read(after, limit=limit, type_glob=type_glob)

    def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        return self._log.subscribe(after)

    async def changed(self, seen: int) -> int:
        async with self._news:
            await self._news.wait_for(lambda: self._version != seen)
            return self._version

    # --- the loop ------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> str:
        """Until `stop` is set or the tunnel process ends. Returns the reason in words."""
        self._spawn(self._loop())
        stopping = self._spawn(stop.wait())
        ended = self._link.closed
        watched = {stopping, ended, self._broken}
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if self._broken in done:
            self._broken.result()  # a programming error: let it be seen
        if stopping in done:
            return "stopped"
        return f"the tunnel process ended (status {ended.result()})"

    def listen(self) -> None:
        """Begin to hear the tunnel and the kernel: after the session's first events are stored."""
        self._link.send(
            e.PutPolicy(volunteer=self.options.volunteer, port_search=self.options.port_search)
        )
        self._spawn(self._read_tunnel())
        for work in self._surroundings.works(self.options.port_mapping):
            self._spawn(work)

    async def close(self, reason: str) -> None:
        """Say so in the log, then take everything down."""
        try:
            if not self._broken.done() and self.state_now.node.session == self._session:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.tell(c.CloseSession(reason=reason))
        except TimeoutError:
            pass  # the next start finds a session without an end, as after a kill
        finally:
            self._surroundings.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._surroundings.release()
            self.gossip.close()
            await self.client.close()
            await self.stop_serving()

    def report(self, command: Input) -> None:
        """Something happened. If the inbox is full the report is counted and dropped."""
        try:
            self._inbox.put_nowait((command, None))
        except asyncio.QueueFull:
            self._count("inbox_full")

    async def tell(self, command: c.Reported) -> Refusal | None:
        """As `report`, but waits until its events are committed or refused."""
        answer: Answer = asyncio.get_running_loop().create_future()
        await self._inbox.put((command, answer))
        first: set[asyncio.Future[Any]] = {answer, self._broken}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else _fault()

    async def _loop(self) -> None:
        again: list[tuple[Input, Answer | None]] = []
        while True:
            batch = again or [await self._inbox.get()]
            batch_max = INBOX_MAX if again else BATCH_MAX
            while len(batch) < batch_max and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            again = await self._take(batch)
            if again:
                await asyncio.sleep(FULL_DISK_RETRY_S)

    async def _take(
        self, batch: list[tuple[Input, Answer | None]]
    ) -> list[tuple[Input, Answer | None]]:
        """Returns what is to be tried again. The disk is full, say: nobody was told that it
        happened, and what the world reported stays true, in its order. Callers have their refusal.
        """
        now_ms = time.time_ns() // 1_000_000
        state, events, refusals = self._decide(batch, now_ms)
        failed: Refusal | None = None
        if events:
            stored = await self._log.append(events, at=now_ms)
            if isinstance(stored, tuple):
                self.state_now = state
            else:
                failed = stored if isinstance(stored, Refusal) else _conflict()
        for (_command, answer), refusal in zip(batch, refusals, strict=True):
            if answer is not None and not answer.done():
                answer.set_result(refusal or failed)
        if failed is not None:
            self._count(failed.code)
            return [(command, None) for command, answer in batch if answer is None]
        if any(refusal and refusal.code == "gap" for refusal in refusals):
            self._follow_anew()
        await self._settle()
        if events:
            await self._announce_news()
        return []

    def _decide(
        self, batch: list[tuple[Input, Answer | None]], now_ms: int
    ) -> tuple[mesh.Mesh, list[Event], list[Refusal | None]]:
        state = self.state_now
        seq = self._log.head
        events: list[Event] = []
        refusals: list[Refusal | None] = []
        for given, _answer in batch:
            refused: Refusal | None = None
            for command in self._opened(state, given):
                decision = decide(state, command, now_ms)
                if isinstance(decision, Refusal):
                    refused = decision
                    continue
                for event in decision:
                    seq += 1
                    state = mesh.evolve(state, event, seq=seq, at=now_ms, session_id=self._session)
                    events.append(event)
            refusals.append(refused)
        return state, events, refusals

    def _count(self, drop: str) -> None:
        self._drops[drop] = self._drops.get(drop, 0) + 1

    def _follow_anew(self) -> None:
        """Records from control were lost on the way here (a full inbox): have them sent again."""
        self.client.want(None)
        self._actual = msgspec.structs.replace(self._actual, party="")

    async def _announce_news(self) -> None:
        async with self._news:
            self._version += 1
            self._news.notify_all()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Ends with the node; its error ends the node."""
        return self._spawn(work)

    def order(self, order: e.AnyOrder) -> None:
        self._link.send(order)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """No task may die unseen: its error ends the node."""
        self._tasks.discard(task)
        if task.cancelled() or self._broken.done():
            return
        error = task.exception()
        if error is not None:
            self._broken.set_exception(error)

    # --- effects -------------------------------------------------------------------------------

    async def _records(self, after: int) -> Sequence[bytes]:
        """Our party's signed records behind that position, from the log."""
        return await records_after(self._log, self.state_now.party, after)

    def _on_gossip(self, notice: gossip.Notice) -> None:
        """A member told us, inside the tunnel, what control would have."""
        if isinstance(notice, control.Records):
            self.client.adopt(notice.after, notice.records)
        self._on_control(notice)

    async def _settle(self) -> None:
        self.gossip.follow(self.state_now)
        target = wanted(self.state_now)
        for effect in plan(target, self._actual):
            refused = await self._perform(effect)
            if refused is not None:  # of serving control, which is not tried again in this session
                self.report(
                    c.NoteControl(
                        party=self.state_now.party, url="", connected=False, reason=refused.why
                    )
                )
        self._actual = target
        self._surroundings.want_ports(self._open_ports())

    def _open_ports(self) -> list[tuple[str, int]]:
        """The tunnel's, and those of the control that we serve: it needs UDP for STUN."""
        ports = [("udp", self.options.port)]
        if self._server is not None:
            at = self._server.port
            ports += [("tcp", at), ("udp", at), ("udp", at + 1)]
        return ports

    async def _perform(self, effect: e.Effect) -> Refusal | None:
        match effect:
            case e.RunControl(serve=serve):
                return await (self.serve_control() if serve else self.stop_serving())
            case e.FollowControl(party=party, urls=urls):
                own = self._server is not None and self.state_now.control.embedded
                at = (self.control_url,) if own else urls
                chain = self.state_now.chain
                self.client.want(control.Target(party, at, chain, self._records))
            case e.LeaveControl():
                self.client.want(None)
                self._live.clear()
                self._relay_rtts_ms.clear()
                self._link.send(e.PutRelays(relays=()))
            case e.Announce(peer=who):
                self._announce(who)
            case e.UseServers(urls=urls):
                self.use_servers(urls)
            case _:
                self._link.send(effect)
        return None

    async def serve_control(self) -> Refusal | None:
        """Serve the rendezvous from this node, if it does not already."""
        if self._server is not None:
            return None
        secret = relay_secret(self.options.state_dir / SECRET)
        if isinstance(secret, Refusal):
            return secret
        log = await Log.open(
            self.options.state_dir / CONTROL_LOG, session=self._session, lock=CONTROL_LOCK
        )
        if isinstance(log, Refusal):
            return log
        host, _, port = self.options.control_listen.rpartition(":")
        # Guests may join parties here, but only this device may found one.
        server = await ControlServer.start(
            host.strip("[]"),
            int(port),
            log,
            creators=frozenset({self.identity.peer}),
            relay_secret=secret,
        )
        if isinstance(server, Refusal):
            await log.close()
            return server
        self._server, self._server_log = server, log
        return None

    async def stop_serving(self) -> None:
        server, log = self._server, self._server_log
        if server is None or log is None:
            return
        self._server = self._server_log = None
        try:
            await server.close()
        finally:
            await log.close()  # or its thread would keep the process alive

    @property
    def control_port(self) -> int:
        assert self._server is not None
        return self._server.port

    @property
    def control_url(self) -> str:
        """Of the embedded control, from this computer."""
        host = self.options.control_listen.rpartition(":")[0].strip("[]")
        host = "127.0.0.1" if host in ("", "*", "::", "0.0.0.0") else host
        return f"ws://{endpoint.text((host, self.control_port))}"

    def _announce(self, who: PeerId) -> None:
        """Our candidates, for the eyes of one member."""
        state = self.state_now
        member = state.chain.members.get(who)
        if member is None:
            return
        signal = seal.Signal(
            generation=state.nat.generation,
            candidates=tuple((each.kind, each.address) for each in state.nat.candidates),
            nat=(state.nat.mapping, state.nat.filtering, state.nat.hairpin),
        )
        sealed = seal.seal(
            signal,
            signer=self.identity.signer,
            private_key=self.identity.wireguard,
            party=state.party,
            to=who,
            to_public=member.wireguard,
            nonce=secrets.token_bytes(12),
        )
        if state.control.connected:
            self.client.signal(who, sealed)
        else:
            self.gossip.signal(who, sealed)

    def use_servers(self, urls: tuple[str, ...]) -> None:
        """Have the tunnel's own socket ask these servers where it is seen from."""
        if self._servers_task is not None:
            self._servers_task.cancel()
        self._servers_task = self._spawn(self._use_servers(urls))

    async def _use_servers(self, urls: tuple[str, ...]) -> None:
        while True:
            found = [await _stun_of(url) for url in urls]
            every = [server for each in found for server in each]
            self._stun = tuple(dict.fromkeys(every))
            self._link.send(e.PutServers(servers=tuple(dict.fromkeys(every))))
            if all(found):
                return
            await asyncio.sleep(RESOLVE_RETRY_S)

    # --- inputs --------------------------------------------------------------------------------

    def _moved(self, reason: str) -> None:
        """We are somewhere else, or it is later than we thought: measure everything anew."""
        self._link.send(e.ChangeNetwork(reason=reason))
        self.client.hurry()
        if self._behaviour_task is not None:
            self._behaviour_task.cancel()
            self._behaviour_task = None

    async def _read_tunnel(self) -> None:
        async for notice in self._link.notices():
            if isinstance(notice, m.Counters):
                await self._on_counters(notice)
                continue
            if isinstance(notice, m.RelayBound | m.RelayMeasured):
                self._relay_rtts_ms[notice.relay] = notice.rtt_us // 1000
                self.client.measured(self._relay_rtts_ms)
            if isinstance(notice, m.RelayUnbound):
                self._relay_rtts_ms.pop(notice.relay, None)  # or control would go on picking it
                self.client.measured(self._relay_rtts_ms)
            command = reported(notice)
            if command is not None:
                await self._inbox.put((command, None))
            if isinstance(notice, m.Mapped):
                if notice.server in self.state_now.nat.mapped:  # elsewhere than before
                    self.client.hurry()
                self._label(notice.server)
                self._classify()

    async def _on_counters(self, counters: m.Counters) -> None:
        self._live = {
            each.peer: lobby.Live(
                rtt_us=each.rtt_us,
                loss_permille=each.loss_permille,
                rx_bytes=each.rx_bytes,
                tx_bytes=each.tx_bytes,
            )
            for each in counters.peers
        }
        self._drops.update(counters.drops)
        await self._announce_news()

    def _classify(self) -> None:
        """What our router does: once on each network, when a server is known to answer."""
        if self._behaviour_task is None:
            self._behaviour_task = self._spawn(self._find_behaviour())

    async def _find_behaviour(self) -> None:
        await asyncio.sleep(CLASSIFY_DELAY_S)
        found = await nat_behaviour.classify(self._stun)
        if not found.mapping:
            self._behaviour_task = None  # again when there is more to ask
        self.report(
            c.NoteBehaviour(
                mapping=found.mapping,
                filtering=found.filtering,
                hairpin=found.hairpin,
                server=found.server,
                evidence=tuple(found.evidence),
            )
        )

    def _label(self, server: str) -> None:
        """The classic NAT label, once a session: for diagnosis, off the hot path."""
        if self._label_task is None:
            self._label_task = self._spawn(self._find_label(server))

    async def _find_label(self, server: str) -> None:
        await asyncio.sleep(LABEL_DELAY_S)
        host, _, port = server.rpartition(":")
        found = await nat_label.label(host.strip("[]"), int(port))
        if found:
            self.report(c.NoteLabel(label=found, server=server))

    def _on_control(self, notice: control.ControlNotice) -> None:
        party = self.state_now.party
        match notice:
            case control.Connected(url=url):
                self.report(c.NoteControl(party=party, url=url, connected=True))
                self._classify()  # no STUN answer may ever come: that UDP is blocked is news, too
            case control.Disconnected(url=url, reason=reason):
                self.report(c.NoteControl(party=party, url=url, connected=False, reason=reason))
            case control.Records(party=of, after=after, records=records):
                self.report(c.AcceptRecords(party=of, after=after, records=records))
            case control.Diverged(reason=reason):
                self.report(c.NoteDiverged(party=party, reason=reason))
            case control.Presence(party=of, online=online):
                self._check_absent(online)
                self.report(c.NotePresence(party=of, online=online))
            case control.Granted(relays=relays):
                self._use_relays(relays)
            case control.Picked(picks=picks):
                chosen = tuple(
                    c.RelayPick(peer=each.peer, relay=each.relay, sum_ms=each.sum_ms)
                    for each in picks
                )
                self.report(c.NotePicks(party=party, picks=chosen))
            case control.SignalArrived():
                self.report(notice)

    def _check_absent(self, online: tuple[PeerId, ...]) -> None:
        """Control lost sight of a member: does the path to it still answer?"""
        for who, peer in self.state_now.peers.items():
            if peer.online and peer.path is not None and who not in online:
                self._link.send(e.CheckPeer(peer=who))

    def _use_relays(self, relays: Sequence[control.Relay]) -> None:
        """The tickets go straight to the tunnel: they are secrets, and what is stored is not."""
        offers = tuple(
            c.RelayOffer(relay=each.relay, region=each.region, tcp=each.tcp, boot=each.boot.hex())
            for each in relays
        )
        self.report(c.NoteRelays(party=self.state_now.party, relays=offers))
        grants = tuple(e.RelayGrant(**msgspec.structs.asdict(each)) for each in relays)
        self._link.send(e.PutRelays(relays=grants))

    def _opened(self, state: mesh.Mesh, given: Input) -> tuple[c.Reported, ...]:
        """What a signal says. It is opened here, in its turn: the record that makes its sender a
        member may have come a moment before it."""
        if not isinstance(given, control.SignalArrived):
            return (given,)
        member = state.chain.members.get(given.sender)
        if member is None:
            self._count("signal_stranger")
            return ()
        now_s = time.monotonic()
        fresh = Bucket(SIGNALS_PER_S, SIGNALS_BURST, now_s)
        if not self._signals.setdefault(given.sender, fresh).take(now_s):
            self._count("signal_flood")  # each would be an event
            return ()
        opened = seal.open_signal(
            given.sealed,
            private_key=self.identity.wireguard,
            party=state.party,
            sender=given.sender,
            sender_public=member.wireguard,
            to=self.identity.peer,
        )
        if not isinstance(opened, seal.Signal):
            self._count("signal_invalid")
            return ()
        mapping, filtering, hairpin = opened.nat
        return (
            c.NoteCandidates(
                peer=given.sender,
                generation=opened.generation,
                candidates=tuple(Candidate(kind, at) for kind, at in opened.candidates),
            ),
            c.NotePeerNat(peer=given.sender, mapping=mapping, filtering=filtering, hairpin=hairpin),
        )


async def _stun_of(server: str) -> list[str]:
    """Numeric addresses that answer STUN: of a control URL, or as it stands."""
    if server.startswith(STUN):
        return [server.removeprefix(STUN)]
    return await servers_of(server)


def _fault() -> Refusal:
    return Refusal("fault", "Not done", "LANrage has a fault", "Restart `lanrage up`.")


def _conflict() -> Refusal:
    return Refusal(
        "conflict", "Cannot store", "another writer changed the log", "Restart `lanrage up`."
    )
