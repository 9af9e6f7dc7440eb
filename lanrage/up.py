"""Starting a node: privileges, tunnel process, log, API; and taking all of it down again.

The tunnel process is started first, while there still is the right to make an interface; then this
process gives that right up for good. From there on, whatever is refused ends the start with one
line and leaves nothing behind: the interface vanishes with the tunnel process, and that ends when
its socketpair does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from events.base import Stored
from events.log import Log
from lanrage import __version__, identity, state_dir
from lanrage import commands as c
from lanrage.control.urls import websocket_url
from lanrage.intents import Intents
from lanrage.node import Node, Options
from lanrage.refusal import Refusal
from lanrage.tunnel import link as tunnel
from lanrage.tunnel import messages as m
from lanrage.tunnel.privileges import drop_all
from profiles import catalog
from projections import lobby, mesh
from web.app import create_app
from web.guard import loopback_hosts
from web.server import WebServer, bind_loopback

START_TIMEOUT_S = 10.0
READ_ROWS = 1_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`lanrage up` with its options."""

    state: Path
    name: str | None = None
    control: str = ""
    control_listen: str = "[::]:8667"
    advertise: tuple[str, ...] = ()
    port: int = 26666
    api: str = "127.0.0.1:8666"
    interface: str = "lanrage0"
    volunteer: bool = True  # forward for members that cannot reach each other
    port_search: bool = False
    port_mapping: bool = True  # ask the router to open our ports
    backend: str = "auto"  # "auto" | "userspace" | "kernel"
    json: bool = False


class Shown:
    """What the web room is handed: the node's views and the intents. See web.port.Node."""

    def __init__(self, node: Node, intents: Intents) -> None:
        self._node = node
        self.submit = intents.submit
        self.read = node.read
        self.changed = node.changed

    @property
    def head(self) -> int:
        return self._node.head

    def status(self) -> lobby.Status:
        return self._node.status()

    def state(self) -> bytes:
        return self._node.state()

    def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        return self._node.subscribe(after)


async def up(settings: Settings) -> Refusal | None:
    """Run a node until SIGINT or SIGTERM."""
    refused = _may_run(settings)
    if refused is not None:
        return refused
    who = state_dir.owner()
    refused = state_dir.make(settings.state, who)
    if refused is not None:
        return refused
    async with contextlib.AsyncExitStack() as stack:
        stop = _stop_on_signals()
        _wait_for_children_without_a_thread()
        link = await tunnel.start()
        stack.push_async_callback(link.stop)
        drop_all(who.uid, who.gid)
        return await _run(settings, link, stack, stop)


async def _run(
    settings: Settings, link: tunnel.Link, stack: contextlib.AsyncExitStack, stop: asyncio.Event
) -> Refusal | None:
    session = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    log = await Log.open(settings.state / state_dir.EVENTS, session=session)
    if isinstance(log, Refusal):
        return log
    stack.push_async_callback(log.close)
    me = identity.load_or_create(settings.state, settings.name)
    if isinstance(me, Refusal):
        return me
    host, _, port = settings.api.rpartition(":")
    sockets = bind_loopback(host.strip("[]"), int(port))
    if isinstance(sockets, Refusal):
        return sockets
    started = await _start_tunnel(link, settings, me)
    if isinstance(started, Refusal):
        return started
    node = Node(
        log=log,
        identity=me,
        link=link,
        options=Options(
            control=settings.control,
            control_listen=settings.control_listen,
            advertise=settings.advertise,
            interface=settings.interface,
            port=started.port,
            volunteer=settings.volunteer,
            port_search=settings.port_search,
            port_mapping=settings.port_mapping,
            state_dir=settings.state,
        ),
        session=session,
        state=await _replayed(log),
    )
    return await _serve(settings, node, started, sockets, stop)


async def _serve(
    settings: Settings,
    node: Node,
    started: m.Started,
    sockets: tuple[Any, ...],
    stop: asyncio.Event,
) -> Refusal | None:
    port = sockets[0].getsockname()[1]
    api = _write_api(settings.state, port)
    if isinstance(api, Refusal):
        return api
    running = asyncio.create_task(node.run(stop))
    intents = Intents(node, catalog.load(settings.state / state_dir.PROFILES))
    server: WebServer | None = None
    reason = "it could not be started"
    try:
        refused = await _open_session(node, started)
        if refused is not None:
            return refused
        node.listen()
        await intents.choose_profile(node.state_now.profile.id, "started")
        app = create_app(Shown(node, intents), token=api.token, hosts=loopback_hosts(port))
        server = await WebServer.start(app, sockets)
        _say_ready(settings, node, api)
        gc.freeze()  # what was imported stays: never look through it again
        reason = "a fault in LANrage"
        reason = await running
    finally:
        (settings.state / state_dir.API).unlink(missing_ok=True)
        await intents.close()
        if server is not None:
            await server.close()
        running.cancel()
        await node.close(reason)
    if stop.is_set():
        return None
    return Refusal("tunnel_died", "LANrage stopped", reason, "Start it again: `lanrage up`.")


def _write_api(state: Path, port: int) -> state_dir.ApiFile | Refusal:
    try:
        api = state_dir.ApiFile(f"http://127.0.0.1:{port}", state_dir.token(state))
        state_dir.write_api(state, api)
    except OSError as error:
        return state_dir.unusable(state, error.strerror or str(error))
    return api


async def _open_session(node: Node, started: m.Started) -> Refusal | None:
    """The party that this computer serves is served from the first moment, or not at all."""
    state = node.state_now
    if state.party and state.control.embedded:
        refused = await node.serve_control()
        if refused is not None:
            return refused
    me = node.identity
    refused = await node.tell(
        c.OpenSession(
            version=__version__,
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            peer=me.peer,
            name=me.name,
            wireguard=me.wireguard_public,
        )
    )
    return refused or await node.tell(
        c.NoteTunnel(interface=started.interface, port=started.port, backend="userspace")
    )


async def _start_tunnel(
    link: tunnel.Link, settings: Settings, me: identity.Identity
) -> m.Started | Refusal:
    link.send(
        m.Start(
            private_key=me.wireguard.private_bytes_raw(),
            interface=settings.interface,
            port=settings.port,
        )
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            async for notice in link.notices():
                if isinstance(notice, m.Started):
                    return notice
                if isinstance(notice, m.Failed):
                    return notice.refusal
    except TimeoutError:
        pass
    return Refusal(
        "tunnel_start",
        "Cannot start the tunnel",
        "its process gave no answer",
        "Look at what it printed above, and try again.",
    )


async def _replayed(log: Log) -> mesh.Mesh:
    state = mesh.EMPTY
    after = 0
    while rows := await log.read(after, limit=READ_ROWS):
        state = mesh.fold_all(state, rows)
        after = rows[-1].seq
    return state


def _may_run(settings: Settings) -> Refusal | None:
    if settings.backend == "kernel":
        return Refusal(
            "no_kernel_backend",
            "Cannot use the kernel's WireGuard",
            "this LANrage has only its own engine yet",
            "Start without --tunnel.",
        )
    for written in filter(None, (settings.control, *settings.advertise)):
        url = websocket_url(written)
        if isinstance(url, Refusal):
            return url
    if sys.platform != "linux":
        return Refusal(
            "platform", "Cannot run here", "LANrage needs Linux for now", "See the README."
        )
    if os.geteuid() != 0:
        return Refusal(
            "no_root",
            "Cannot start",
            "making a network interface needs root",
            "Try `sudo lanrage up`, or `sudo make up` in the source folder.",
        )
    if not os.path.exists("/dev/net/tun"):
        return Refusal(
            "no_tun",
            "Cannot start",
            "this system has no /dev/net/tun",
            "Load it with `modprobe tun`, or allow it in the container's settings.",
        )
    return None


def _wait_for_children_without_a_thread() -> None:
    """Python 3.11 would start a thread here, and a thread keeps the rights it was started with."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(each, stop.set)
    return stop


def _say_ready(settings: Settings, node: Node, api: state_dir.ApiFile) -> None:
    dashboard = f"{api.api}/#token={api.token}"
    if settings.json:
        ready = {
            "ready": True,
            "peer": node.identity.peer,
            "api": api.api,
            "dashboard": dashboard,
        }
        print(msgspec.json.encode(ready).decode(), flush=True)
        return
    party = node.state_now.chain.name
    print(f"LANrage is up as {node.identity.name}" + (f", in {party}." if party else "."))
    print(f"  Dashboard  {dashboard}")
    if not party:
        print("  Next       `lanrage create NAME`, or `lanrage join LINK` with a friend's invite")
    print("  Stop       Ctrl-C", flush=True)
