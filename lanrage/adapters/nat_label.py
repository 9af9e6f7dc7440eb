"""The classic NAT label (RFC 3489), from pystun3, for people who read reports. Decides nothing.

pystun3 blocks for up to 8 s a test, raises on answers it does not expect, and sends without end at
a server that answers with an error. It therefore runs in a child process with a socket of its own
(never the tunnel's), is killed at a deadline, and would end itself by alarm if we died first.

What it says has to be read with care. Our server has one address: it cannot show that a router
lets everybody in, so a full cone is called address-restricted. The child is given its real source
address, because without it pystun3 never notices that there is no router at all.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

DEADLINE_S = 25.0
OUTPUT_MAX_BYTES = 256

WORDS = {
    "Open Internet": "no NAT: everybody can reach this computer",
    "Symmetric UDP Firewall": "no NAT, but perhaps a firewall that lets in only answers",
    "Full Cone": "full-cone NAT: lets everybody in",
    "Restric NAT": "address-restricted NAT: lets in addresses it was asked for, or everybody",
    "Restric Port NAT": "port-restricted NAT: lets in only address and port it was asked for",
    "Symmetric NAT": "symmetric NAT: another port for every destination",
    "Blocked": "blocked: no answer over UDP",
    "Meet an error, when do Test1 on Changed IP and Port": (
        "NAT of unknown kind: the second port of the server did not answer"
    ),
}

_CHILD = """
import signal, socket, sys
host, port, deadline_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if hasattr(signal, "alarm"):
    signal.alarm(deadline_s + 5)
import stun
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
    route.connect((host, port))
    source = route.getsockname()[0]
print(stun.get_ip_info(source, 0, host, port)[0])
"""


async def label(server_host: str, server_port: int, deadline_s: float = DEADLINE_S) -> str | None:
    """The label in plain words; None if there was none in time or pystun3 failed."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _CHILD),
        *(server_host, str(server_port), str(int(deadline_s))),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(deadline_s):
            return await _read(child)
    except TimeoutError:
        return None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _read(child: Process) -> str | None:
    assert child.stdout is not None
    said = await child.stdout.read(OUTPUT_MAX_BYTES)
    if await child.wait() != 0:
        return None
    return WORDS.get(said.decode(errors="replace").strip())
