"""The body of `lanrage relay`: forwards what members cannot send each other directly.

Three parts that fail apart: the process with the packets (forward.py), which parses what strangers
send and knows nothing else; the TCP front (front.py) for networks without UDP; and the
registration with control (registration.py). Keys and boot id are fresh at every start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.control import secret_file
from lanrage.control.urls import websocket_url
from lanrage.protocols import endpoint
from lanrage.protocols.relay.wire import BOOT_BYTES
from lanrage.refusal import Refusal
from lanrage.relay.forward import Busy, Failed, Plan, Ready, Said
from lanrage.relay.offer import KEY_BYTES, Load, Offer
from lanrage.relay.registration import Registration
from lanrage.tunnel import privileges
from lanrage.tunnel.framing import Unframer, frame

START_S: Final = 10.0
ROOT: Final = Path(__file__).resolve().parents[2]
WILD: Final = ("", "*", "0.0.0.0", "::")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`lanrage relay` with its options."""

    listen: str = "0.0.0.0:3478"
    tcp: str = ""
    cert: Path | None = None
    key: Path | None = None
    region: str = ""
    control: str = ""
    advertise: str = ""
    alternate: str = ""
    member_mbits: int = 100
    secret: Path | None = None
    state: Path
    json: bool = False


async def run(settings: Settings) -> Refusal | None:
    """Serve until SIGINT or SIGTERM."""
    if settings.alternate and _place(settings.listen)[0] in WILD:
        return Refusal(
            "alternate",
            "Cannot use a second address",
            "the first is not named",
            "Say which: --listen ADDRESS:PORT, beside --alternate ADDRESS.",
        )
    secret = _secret(settings)
    if isinstance(secret, Refusal):
        return secret
    async with contextlib.AsyncExitStack() as stack:
        return await _serve(settings, secret, stack)


async def _serve(
    settings: Settings, secret: bytes, stack: contextlib.AsyncExitStack
) -> Refusal | None:
    stop = _stop_on_signals()
    host, port = _place(settings.listen)
    private = X25519PrivateKey.generate()
    plan = Plan(
        host="" if host in WILD else host,
        port=port,
        shown=_shown(settings, host),
        private_key=private.private_bytes_raw(),
        ticket_key=secrets.token_bytes(KEY_BYTES),
        boot=secrets.token_bytes(BOOT_BYTES),
        alternate=settings.alternate,
        member_bytes_per_s=settings.member_mbits * 125_000,
    )
    forward = await _Forward.start(plan)
    stack.push_async_callback(forward.stop)
    ready = await forward.ready()
    if isinstance(ready, Refusal):
        return ready
    door = await _open_door(settings, ready.port, stack)
    if isinstance(door, Refusal):
        return door
    if os.geteuid() == 0:  # every port is open and every file read
        privileges.drop_all(privileges.NOBODY, privileges.NOBODY)
    offer = _offer(settings, plan, ready.port, door)
    _announce(settings, ready.port, *door, offer.public_key)
    registration: list[Coroutine[Any, Any, None]] = []
    if settings.control:
        at_control = Registration(settings.control, offer, secret, forward.load, _say)
        registration.append(at_control.run())
    return await _until_stopped(stop, forward, registration)


async def _open_door(
    settings: Settings, port: int, stack: contextlib.AsyncExitStack
) -> tuple[int, str] | Refusal:
    """The TCP front, where one is asked for: its port, and the pin of its certificate."""
    if not settings.tcp:
        return 0, ""
    from lanrage.relay import front  # loads TLS, which a relay without it need not

    door = await front.serve(
        _place(settings.tcp),
        port,
        settings.cert,
        settings.key,
        settings.control,
        state=settings.state if settings.control else None,
    )
    if isinstance(door, Refusal):
        return door
    stack.push_async_callback(door.close)
    return door.port, door.pin


def _offer(settings: Settings, plan: Plan, port: int, door: tuple[int, str]) -> Offer:
    advertised = endpoint.parse(settings.advertise) if settings.advertise else None
    own = (endpoint.text((plan.host, port)),) if plan.host else ()
    named = settings.advertise and not advertised
    return Offer(
        addresses=(settings.advertise,) if advertised else own,
        host=_place(settings.advertise)[0] if named else "",
        port=port,
        region=settings.region,
        tcp=door[0],
        pin=door[1],
        public_key=X25519PrivateKey.from_private_bytes(plan.private_key)
        .public_key()
        .public_bytes_raw(),
        boot=plan.boot,
        ticket_key=plan.ticket_key,
    )


async def _until_stopped(
    stop: asyncio.Event, forward: _Forward, works: list[Coroutine[Any, Any, None]]
) -> Refusal | None:
    jobs: set[asyncio.Future[Any]] = {
        asyncio.ensure_future(each) for each in (stop.wait(), forward.read(), *works)
    }
    try:
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    for job in done:
        job.result()  # a fault of ours: let it be seen
    if stop.is_set():
        return None
    return Refusal(
        "relay_died", "The relay stopped", "its forwarding process ended", "Start it again."
    )


class _Forward:
    """The process with the packets, from this side."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._writer = writer
        self._said = _said(reader)
        self._busy: list[tuple[float, Busy]] = []

    @classmethod
    async def start(cls, plan: Plan) -> _Forward:
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lanrage.relay.forward", str(fd), pass_fds=[fd], cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL, start_new_session=False,
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(frame(plan))
        return cls(process, reader, writer)

    async def ready(self) -> Ready | Refusal:
        try:
            async with asyncio.timeout(START_S):
                async for said in self._said:
                    if isinstance(said, Ready):
                        return said
                    if isinstance(said, Failed):
                        return said.refusal
        except TimeoutError:
            pass
        return Refusal("relay_start", "Cannot start the relay", "its process ended", "Try again.")

    async def read(self) -> None:
        async for said in self._said:
            if isinstance(said, Busy):
                self._busy = [*self._busy[-1:], (asyncio.get_running_loop().time(), said)]

    def load(self) -> Load:
        if len(self._busy) < 2:
            return Load(members=self._busy[-1][1].members if self._busy else 0)
        (then_s, then), (now_s, now) = self._busy
        rate = (now.bytes - then.bytes) / max(now_s - then_s, 0.001)
        return Load(members=now.members, bytes_per_s=int(rate))

    async def stop(self) -> None:
        self._writer.transport.abort()  # which it takes for our end
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()


async def _said(reader: asyncio.StreamReader) -> AsyncIterator[Said]:
    unframer = Unframer(msgspec.msgpack.Decoder(Said))
    while data := await reader.read(65_536):
        for each in unframer.feed(data) or ():
            yield each


def _secret(settings: Settings) -> bytes | Refusal:
    if not settings.control:
        return b""
    url = websocket_url(settings.control)
    if isinstance(url, Refusal):
        return url
    path = settings.secret or settings.state / secret_file.NAME
    if settings.secret is None:
        try:
            settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            return Refusal(
                "state_unusable",
                f"Cannot use the state directory {settings.state}",
                error.strerror or str(error),
                "Choose another with --state DIR, or name a file with --secret.",
            )
    return secret_file.relay_secret(path)


def _place(written: str) -> tuple[str, int]:
    host, _, port = written.rpartition(":")
    return host.strip("[]"), int(port)


def _shown(settings: Settings, host: str) -> str:
    """Our own address as members see it, where we know it: STUN names it for further tests."""
    advertised = endpoint.parse(settings.advertise) if settings.advertise else None
    if advertised is not None:
        return advertised[0]
    return "" if host in WILD else host


def _announce(settings: Settings, port: int, tcp: int, pin: str, public_key: bytes) -> None:
    host = _place(settings.listen)[0] or "0.0.0.0"
    name = settings.advertise or endpoint.text((host, port))
    if settings.json:
        ready = {"ready": True, "relay": name, "port": port, "tcp": tcp, "pin": pin}
        shown = {**ready, "public_key": public_key.hex()}
        print(msgspec.json.encode(shown).decode(), flush=True)
        return
    also = f", TCP {tcp}" if tcp else ""
    print(f"LANrage relay at {name} (UDP {port}{also}; STUN on UDP {port} and {port + 1}).")
    if tcp and settings.control:
        shown_host = endpoint.text((_place(name)[0], tcp))
        pinned = f"wss://{shown_host}/" + (f"#sha256={pin}" if pin else "")
        print(f"  Through TCP {tcp} control is reached, too: {pinned}")
    if not settings.control:
        print("  Nobody has a ticket for it: name the party's control with --control URL.")
    sys.stdout.flush()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    return stop
