"""`lanrage tunnel CONFIG`: the WireGuard engine alone, from a file in wg-quick's format.

In the foreground until SIGINT or SIGTERM. The interface, its addresses and routes vanish with the
process, so there is nothing to undo but the socket that answers `wg show`.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lanrage.protocols.wireguard.constants import REKEY_AFTER
from lanrage.protocols.wireguard.engine import Engine
from lanrage.refusal import Refusal
from lanrage.tunnel import netlink, privileges, udp, wgquick
from lanrage.tunnel.dataplane import DataPlane, new_engine
from lanrage.tunnel.interface import Interface, create, parse
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.process import settle_memory
from lanrage.tunnel.uapi import Uapi
from lanrage.tunnel.udp import UdpPort

CONFIG_MAX = 4 << 20  # bytes


def run(
    config_path: Path, interface: str | None = None, *, rekey_after_ns: int = REKEY_AFTER
) -> int | Refusal:
    """The whole life of the command. The file's name is the interface's, unless one is given.
    Only tests renew sessions sooner than the protocol says."""
    config = _read(config_path)
    if isinstance(config, Refusal):
        return config
    name = interface or config_path.stem
    with ExitStack() as undo:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))
        try:
            return _run(config, name, rekey_after_ns, undo)
        except SystemExit as end:
            return int(end.code or 0)


def _run(config: wgquick.Config, name: str, rekey_after_ns: int, undo: ExitStack) -> int | Refusal:
    engine = new_engine(config.private_key, roaming=True, rekey_after_ns=rekey_after_ns)
    engine.mtu = config.mtu
    port = udp.open_port(config.port)
    if isinstance(port, Refusal):
        return port
    undo.callback(port.close)
    refusal = _put_peers(engine, config)
    if refusal is not None:
        return refusal
    tap = create(name)
    if isinstance(tap, Refusal):
        return tap
    undo.callback(tap.close)
    refusal = _configure(tap, config)
    if refusal is not None:
        return refusal
    loop = Loop()
    outside = Outside(port)
    settle = _settle(engine, outside)
    uapi = Uapi(name, loop, engine, config.private_key, port.port, settle=settle)
    refusal = uapi.open()
    if refusal is not None:
        return refusal
    undo.callback(uapi.close)
    data = DataPlane(tap, outside, engine, settle=settle)
    data.put_networks([address.network for address in tap.addresses])
    data.watch(loop)
    privileges.keep_only((privileges.CAP_NET_ADMIN,), 0, 0)
    settle_memory()
    _announce(name, config, port)
    settle(now_ns())

    def handle_timer(now: int) -> None:
        engine.handle_timer(now)
        settle(now)

    loop.run(engine.timer, handle_timer)
    raise AssertionError("the loop ends by SystemExit only")


def _settle(engine: Engine, outside: Outside) -> Callable[[int], None]:
    def settle(_: int) -> None:
        for place, datagram in engine.take_outgoing():
            outside.send(place, [datagram])
        engine.take_notices()

    return settle


def _read(path: Path) -> wgquick.Config | Refusal:
    what = "Cannot use this WireGuard configuration"
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_MAX + 1)
        if len(data) > CONFIG_MAX:
            return Refusal("wireguard_config", what, f"{path} is too large", "")
        config = wgquick.parse(data.decode())
    except OSError as failure:
        return Refusal("wireguard_config", what, f"{path}: {failure.strerror}", "")
    except UnicodeDecodeError:
        return Refusal("wireguard_config", what, f"{path} is not text", "")
    if isinstance(config, Refusal):
        return Refusal(config.code, config.what, f"{path}, {config.why}", config.fix)
    return config


def _put_peers(engine: Engine, config: wgquick.Config) -> Refusal | None:
    what = "Cannot use this WireGuard configuration"
    for wanted in config.peers:
        try:
            peer = engine.put_peer(
                wanted.public_key,
                allowed=wanted.allowed,
                preshared_key=wanted.preshared_key,
                keepalive_s=wanted.keepalive_s,
            )
        except ValueError as failure:
            short = base64.b64encode(wanted.public_key).decode()[:8]
            return Refusal("wireguard_config", what, f"peer {short}...: {failure}", "")
        if wanted.endpoint is None:
            continue
        host, number = wanted.endpoint
        try:
            found = socket.getaddrinfo(host, number, type=socket.SOCK_DGRAM)
        except OSError as failure:
            return Refusal("endpoint", what, f"endpoint {host}: {failure.strerror}", "")
        address = found[0][4]
        engine.set_endpoint(peer, (str(address[0]), int(address[1])), now_ns())
    return None


def _configure(tap: Interface, config: wgquick.Config) -> Refusal | None:
    addresses = parse(config.addresses)
    if isinstance(addresses, Refusal):
        return addresses
    refusal = tap.configure(addresses, config.mtu)
    if refusal is not None or not config.routes:
        return refusal
    networks = [ipaddress.ip_network(text) for peer in config.peers for text in peer.allowed]
    on_link = [address.network for address in addresses if address.network.prefixlen]
    for network in dict.fromkeys(networks):
        if any(
            network.network_address in link and network.prefixlen >= link.prefixlen
            for link in on_link
        ):
            continue
        refusal = _route(tap, network)
        if refusal is not None:
            return refusal
    return None


def _route(tap: Interface, network: netlink.Network) -> Refusal | None:
    what = f"Cannot add a route to {network}"
    if network.prefixlen == 0:
        why = "a default route would carry the tunnel's own packets, too"
        return Refusal("default_route", what, why, "Say `Table = off` and add routes yourself.")
    failed = netlink.add_route(tap.index, network)
    if failed in (0, errno.EEXIST):
        return None
    return Refusal("route", what, os.strerror(failed), "")


def _announce(name: str, config: wgquick.Config, port: UdpPort) -> None:
    where = ", ".join(config.addresses) or "no address"
    peers = "1 peer" if len(config.peers) == 1 else f"{len(config.peers)} peers"
    print(f"{name}: {where}, UDP port {port.port}, {peers}", file=sys.stderr)
    for key in config.ignored:
        print(f"{name}: {key} is ignored", file=sys.stderr)
    sys.stderr.flush()
