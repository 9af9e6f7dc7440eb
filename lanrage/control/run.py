"""The body of `lanrage control`: the rendezvous server alone, in the foreground."""

from __future__ import annotations

import asyncio
import secrets
import signal
import ssl
from pathlib import Path
from typing import Final

import msgspec

from events.log import Log
from lanrage import certificate
from lanrage.control import secret_file
from lanrage.control.messages import DEFAULT_PORT
from lanrage.control.secret_file import NAME
from lanrage.control.server import ControlServer
from lanrage.refusal import Refusal

LOG: Final = "control.sqlite"
LOCK: Final = "control.lock"


async def run(
    listen: str,
    state: Path,
    *,
    json: bool = False,
    relay_secret: Path | None = None,
    tls: bool = False,
    cert: Path | None = None,
    key: Path | None = None,
) -> Refusal | None:
    """Serve until SIGINT or SIGTERM. `listen` is HOST:PORT, HOST or :PORT. `relay_secret`: the file
    that relays have, too; by default one in `state`, made where it is missing.
    `tls`: with `cert` and `key`, or a self-signed certificate that is kept in `state`."""
    place = _place(listen)
    if isinstance(place, Refusal):
        return place
    try:
        await asyncio.to_thread(state.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return Refusal(
            "state_unusable",
            f"Cannot use the state directory {state}",
            error.strerror or str(error),
            "Choose another with --state DIR.",
        )
    secret = await asyncio.to_thread(secret_file.relay_secret, relay_secret or state / NAME)
    if isinstance(secret, Refusal):
        return secret
    secured = await asyncio.to_thread(_secured, state, cert, key) if tls or cert else None
    if isinstance(secured, Refusal):
        return secured
    context, pin = secured or (None, "")
    log = await Log.open(state / LOG, session=secrets.token_hex(8), lock=LOCK)
    if isinstance(log, Refusal):
        return log
    try:
        server = await ControlServer.start(*place, log, relay_secret=secret, tls=context)
        if isinstance(server, Refusal):
            return server
        _announce(_url(place[0], server.port, context is not None, pin), server.port, json)
        await _until_signalled()
        await server.close()
    finally:
        await log.close()
    return None


def _place(listen: str) -> tuple[str, int] | Refusal:
    host, colon, port = listen.rpartition(":")
    if not colon or listen.endswith("]"):
        host, port = listen, str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not int(port) < 65_535:
        return Refusal(
            "bad_listen",
            f"Cannot listen at {listen!r}",
            "it is not HOST:PORT with a port below 65535",
            f"Write it like 0.0.0.0:{DEFAULT_PORT}.",
        )
    return host.strip("[]"), int(port)


def _secured(
    state: Path, cert: Path | None, key: Path | None
) -> tuple[ssl.SSLContext, str] | Refusal:
    """How to serve TLS, and the pin of the certificate if it needs one."""
    # One file may hold certificate and key.
    pem = certificate.read(cert, key or cert) if cert else certificate.kept(state)
    if isinstance(pem, Refusal):
        return pem
    context, pin = certificate.server_context(pem), certificate.pin_of(pem)
    if isinstance(context, Refusal):
        return context
    return pin if isinstance(pin, Refusal) else (context, pin)


def _url(host: str, port: int, secure: bool, pin: str) -> str:
    shown = f"[{host}]" if ":" in host else host or "0.0.0.0"
    if not secure:
        return f"ws://{shown}:{port}"
    return f"wss://{shown}:{port}/" + (f"#sha256={pin}" if pin else "")


def _announce(url: str, port: int, json: bool) -> None:
    if json:
        ready = {"ready": True, "control": url, "port": port}
        print(msgspec.json.encode(ready).decode(), flush=True)
        return
    shown = url.removeprefix("ws://")
    print(f"LANrage control is serving at {shown} (TCP, and STUN over UDP).", flush=True)


async def _until_signalled() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    await stop.wait()
