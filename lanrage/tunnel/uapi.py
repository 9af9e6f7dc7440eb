"""WireGuard's cross-platform configuration protocol, so that `wg show NAME` and `wg set NAME` work.

A Unix socket at /var/run/wireguard/NAME.sock that only root can open. A request is lines of
`key=value` up to an empty line, the first `get=1` or `set=1`; the answer ends with `errno=`
(wireguard.com/xplatform). The private key and the port are not changed while the tunnel runs.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Place, Via
from lanrage.protocols.wireguard.engine import Engine, Peer
from lanrage.refusal import Refusal
from lanrage.tunnel.loop import Loop

FOLDER = Path("/var/run/wireguard")
CLIENTS_MAX = 8
REQUEST_MAX = 1 << 20
ANSWER_WITHIN_S = 1.0

Changes = list[tuple[str, str]]


class _Errno(Exception):
    """A request that is answered with this errno."""


def answer(request: str, engine: Engine, private_key: bytes, port: int, now: int) -> str:
    """The answer to one whole request."""
    lines = request.splitlines()
    try:
        if lines[:1] == ["get=1"]:
            return _get(engine, private_key, port)
        if lines[:1] != ["set=1"]:
            raise _Errno(errno.EPROTO)
        pairs = [tuple(line.split("=", 1)) for line in lines[1:] if line]
        if any(len(pair) != 2 for pair in pairs):
            raise _Errno(errno.EPROTO)
        _set(engine, [(pair[0], pair[1]) for pair in pairs], now)
    except _Errno as failure:
        return f"errno={failure.args[0]}\n\n"
    except ValueError:
        return f"errno={errno.EINVAL}\n\n"
    return "errno=0\n\n"


def _get(engine: Engine, private_key: bytes, port: int) -> str:
    lines = [f"private_key={private_key.hex()}", f"listen_port={port}"]
    for peer in engine.peers.values():
        seconds, nanoseconds = divmod(peer.last_handshake_wall_ns, 1_000_000_000)
        lines += [
            f"public_key={peer.public_key.hex()}",
            f"preshared_key={peer.preshared_key.hex()}",
            "protocol_version=1",
            *_endpoint(peer.endpoint),
            f"last_handshake_time_sec={seconds}",
            f"last_handshake_time_nsec={nanoseconds}",
            f"tx_bytes={peer.tx_bytes}",
            f"rx_bytes={peer.rx_bytes}",
            f"persistent_keepalive_interval={peer.keepalive_s}",
            *(f"allowed_ip={network}" for network in peer.allowed),
        ]
    return "\n".join([*lines, "errno=0", "", ""])


def _set(engine: Engine, pairs: Changes, now: int) -> None:
    first = next((at for at, pair in enumerate(pairs) if pair[0] == "public_key"), len(pairs))
    for key, value in pairs[:first]:
        if (key, value) != ("replace_peers", "true"):
            raise _Errno(errno.EOPNOTSUPP)
        for known in tuple(engine.peers):
            engine.drop_peer(known)
    while first < len(pairs):
        rest = enumerate(pairs[first + 1 :], first + 1)
        end = next((at for at, pair in rest if pair[0] == "public_key"), len(pairs))
        _set_peer(engine, bytes.fromhex(pairs[first][1]), pairs[first + 1 : end], now)
        first = end


def _set_peer(engine: Engine, public_key: bytes, pairs: Changes, now: int) -> None:
    values = dict(pairs)
    peer = engine.peers.get(public_key)
    if "remove" in values:
        engine.drop_peer(public_key)
        return
    if peer is None and "update_only" in values:
        return
    networks = () if peer is None or "replace_allowed_ips" in values else peer.allowed
    added = tuple(value for key, value in pairs if key == "allowed_ip")
    psk = values.get("preshared_key")
    keepalive = values.get("persistent_keepalive_interval")
    changed = engine.put_peer(
        public_key,
        allowed=tuple(dict.fromkeys(networks + added)),
        preshared_key=bytes.fromhex(psk) if psk else _old_psk(peer),
        keepalive_s=int(keepalive) if keepalive else (peer.keepalive_s if peer else 0),
    )
    if "endpoint" in values:
        address = endpoint.parse(values["endpoint"])
        if address is None:
            raise ValueError("endpoint")
        engine.set_endpoint(changed, address, now)


def _old_psk(peer: Peer | None) -> bytes:
    return bytes(32) if peer is None else peer.preshared_key


class Uapi:
    """The socket, in the loop of a running tunnel. `close` removes it."""

    def __init__(
        self,
        name: str,
        loop: Loop,
        engine: Engine,
        private_key: bytes,
        port: int,
        *,
        settle: Callable[[int], None],
    ) -> None:
        self._settle = settle
        self._path = FOLDER / f"{name}.sock"
        self._loop = loop
        self._engine = engine
        self._private_key = private_key
        self._port = port
        self._clients: dict[int, bytearray] = {}
        self._listener: socket.socket | None = None

    def open(self) -> Refusal | None:
        what = "Cannot answer `wg show`"
        if _is_answered(self._path):
            why = f"another program answers at {self._path}"
            return Refusal("uapi_taken", what, why, "Choose another name with --interface.")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        old_mask = os.umask(0o077)
        try:
            FOLDER.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # left by one that was killed
            listener.bind(str(self._path))
            listener.listen(CLIENTS_MAX)
        except OSError as failure:
            listener.close()
            return Refusal("uapi", what, f"{self._path}: {failure.strerror}", "")
        finally:
            os.umask(old_mask)
        self._listener = listener
        self._loop.add(listener.fileno(), self._accept)
        return None

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            with suppress(OSError):
                self._path.unlink()

    def _accept(self, now: int, busy: bool) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            if len(self._clients) >= CLIENTS_MAX:
                client.close()
                return
            client.settimeout(ANSWER_WITHIN_S)
            self._clients[client.fileno()] = bytearray()
            self._loop.add(client.fileno(), lambda now, _: self._read(client, now))

    def _read(self, client: socket.socket, now: int) -> None:
        request = self._clients[client.fileno()]
        with suppress(OSError):
            data = client.recv(65_536)
            request += data
            whole = request.startswith(b"\n") or b"\n\n" in request
            if data and not whole and len(request) < REQUEST_MAX:
                return
            if whole:
                text = request.decode("utf-8", "replace")
                said = answer(text, self._engine, self._private_key, self._port, now)
                self._settle(now)
                client.sendall(said.encode())
        self._loop.remove(client.fileno())
        del self._clients[client.fileno()]
        client.close()


def _endpoint(place: Place | None) -> list[str]:
    if place is None or isinstance(place, Via):  # `wg` has no words for a relay
        return []
    return [f"endpoint={endpoint.text(place)}"]


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor, suppress(OSError):
        visitor.connect(str(path))
        return True
    return False
