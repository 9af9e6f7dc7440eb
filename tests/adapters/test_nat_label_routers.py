"""The label behind real routers, against control's real responder. All routers at once: 16 s."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lanrage.adapters.nat_label import WORDS
from lanrage.lab.lab import Lab
from lanrage.lab.topology import Home, Kind, Router, Server, Topology

PORT = 3478
RESPOND = f"""
import asyncio, socket
from lanrage.control.responder import Responder

async def main():
    Responder.start(socket.AF_INET, "0.0.0.0", {PORT})
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
LABEL = """
import asyncio, sys
from lanrage.adapters.nat_label import label

print(asyncio.run(label(sys.argv[1], int(sys.argv[2]))))
"""
# A server with one address cannot tell a full cone from an address-restricted router.
EXPECTED: dict[Kind, str] = {
    "port-restricted": "Restric Port NAT",
    "symmetric": "Symmetric NAT",
    "address-restricted": "Restric NAT",
    "full-cone": "Restric NAT",
    "udp-blocked": "Blocked",
}


@pytest.mark.root
def test_every_kind_of_router_gets_its_label() -> None:
    seats = {kind: f"pc{number}" for number, kind in enumerate(EXPECTED)}
    homes = tuple(
        Home(name=f"home{seat}", computers=(seat,), router=Router(kind=kind))
        for kind, seat in seats.items()
    )
    with Lab(Topology(homes=homes, servers=(Server(name="control"),))) as lab:
        server = lab.computer("control")
        responder = server.popen([sys.executable, "-c", RESPOND], stdout=subprocess.PIPE)
        assert responder.stdout is not None
        assert responder.stdout.readline() == b"ready\n"
        command = [sys.executable, "-c", LABEL, server.address, str(PORT)]
        asked = {
            kind: lab.computer(seat).popen(command, stdout=subprocess.PIPE)
            for kind, seat in seats.items()
        }
        said = {kind: each.communicate(timeout=40)[0].decode() for kind, each in asked.items()}
        responder.stdout.close()
    assert said == {kind: WORDS[label] + "\n" for kind, label in EXPECTED.items()}
