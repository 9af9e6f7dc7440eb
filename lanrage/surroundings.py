"""What this computer stands in: its addresses, its network, its router, and its sleep.

Each has an adapter that knows when it changes; here what they say becomes reports to the rules.
Whenever the computer is somewhere else, or wakes up, `moved` is called with the reason: nothing
measured holds any more, and the router is asked for ports anew.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from lanrage import commands as c
from lanrage.adapters.addresses import AddressWatch
from lanrage.adapters.network import Network, NetworkWatch
from lanrage.adapters.port_mapping import Failed, Mapped, Port, PortMapping
from lanrage.adapters.suspend import SuspendWatch
from lanrage.protocols import endpoint


class Surroundings:
    """`works` are to be run as tasks. Needs a running event loop from the start."""

    def __init__(
        self,
        *,
        interface: str,
        port: int,
        forwarded: Sequence[str],
        secret: bytes,
        report: Callable[[c.Reported], None],
        moved: Callable[[str], None],
    ) -> None:
        self._port = port
        self._forwarded = tuple(forwarded)  # hosts outside whose `port` leads here, people say
        self._report = report
        self._moved = moved
        self._addresses = AddressWatch(interface)
        self._networks = NetworkWatch(secret)
        self._suspend = SuspendWatch(self._resumed)
        self._mapping = PortMapping(secret, self._mapped)

    def works(self, open_ports: bool) -> list[Coroutine[Any, Any, None]]:
        mapping = [self._mapping.run()] if open_ports else []
        return [self._read_addresses(), self._read_networks(), *mapping]

    def want_ports(self, ports: Sequence[Port]) -> None:
        """The ports that strangers should be able to reach."""
        self._mapping.want(ports)

    def close(self) -> None:
        self._addresses.close()
        self._networks.close()
        self._suspend.close()

    async def release(self) -> None:
        """Give back what the router opened; when its work has ended."""
        await self._mapping.release()

    async def _read_addresses(self) -> None:
        known: tuple[str, ...] | None = None
        async for found in self._addresses:
            listed = tuple(endpoint.text((each, self._port)) for each in (*found, *self._forwarded))
            self._report(c.NoteAddresses(addresses=listed))
            if known is not None:
                self._everything_anew("this computer's addresses changed")
            known = found

    async def _read_networks(self) -> None:
        known: Network | None = None
        async for found in self._networks:
            reason = "started" if known is None else _difference(known, found)
            self._report(c.NoteNetwork(network=found.name, gateway=found.gateway, reason=reason))
            if known is not None:
                self._everything_anew(reason)
            known = found

    def _resumed(self, asleep_ms: int) -> None:
        self._report(c.NoteResumed(asleep_ms=asleep_ms))
        self._addresses.poke()
        self._networks.poke()
        self._everything_anew(f"this computer slept for {asleep_ms // 1000} s")

    def _everything_anew(self, reason: str) -> None:
        self._mapping.renew()
        self._moved(reason)

    def _mapped(self, notice: Mapped | Failed) -> None:
        if isinstance(notice, Failed):
            self._report(
                c.NotePortMapping(protocol=notice.protocol, port=notice.port, reason=notice.reason)
            )
            return
        self._report(
            c.NotePortMapping(
                protocol=notice.protocol,
                port=notice.port,
                external=notice.external,
                method=notice.method,
                lifetime_s=notice.lifetime_s,
                gateway=notice.gateway,
            )
        )


def _difference(old: Network, new: Network) -> str:
    if not new.gateway:
        return "this computer is on no network with a way out any more"
    return "this computer is on another network" if old.gateway else "there is a network again"
