"""The body of `lanrage doctor`: checks in order, each finding printed as it is there.

What waits for the network is started all at once and shown in a fixed order. On a terminal the
check that is being waited for is named meanwhile. Exit status 1 only if something failed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from lanrage import api_client
from lanrage.control.servers import servers_of
from lanrage.doctor import computer, network, party
from lanrage.doctor.finding import FAIL, Finding, ok, warn
from lanrage.refusal import Refusal, plain
from projections.lobby import RelayView, Status

API_S = 3.0
DEADLINE_S = 9.0  # of everything that waits
COLOURS = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}
DIM, RESET, CLEAR = "\x1b[2m", "\x1b[0m", "\r\x1b[2K"
NAME_WIDTH = 18

Tell = Callable[[Finding], None]


class Report(msgspec.Struct):
    """The document of `--json`."""

    checks: list[Finding] = msgspec.field(default_factory=list)
    pairs: tuple[party.Pair, ...] = ()

    @property
    def failed(self) -> bool:
        return any(each.status == FAIL for each in self.checks)


class Printed:
    """Findings as lines. `lively`: a terminal, where colours show and the last line may change."""

    def __init__(self, out: TextIO, lively: bool) -> None:
        self._out = out
        self._lively = lively

    def waiting(self, for_: str) -> None:
        if self._lively:
            self._write(f"{CLEAR}  {DIM}...   {for_}{RESET}")

    def finding(self, each: Finding) -> None:
        start = CLEAR if self._lively else ""
        self._write(
            f"{start}  {self._tinted(each.status)}  {plain(each.check):<{NAME_WIDTH - 1}} "
            f"{plain(each.found)}\n"
        )
        indent = " " * (NAME_WIDTH + 8)
        if each.status != "ok":
            self._write("".join(f"{indent}{self._dim(line)}\n" for line in each.evidence))
        if each.fix:
            self._write(f"{indent}-> {plain(each.fix)}\n")

    def lines(self, each: Sequence[str]) -> None:
        self._write((CLEAR if self._lively else "") + "".join(f"{plain(line)}\n" for line in each))

    def _tinted(self, status: str) -> str:
        padded = f"{status:<4}"
        return f"{COLOURS[status]}{padded}{RESET}" if self._lively else padded

    def _dim(self, line: str) -> str:
        return f"{DIM}{plain(line)}{RESET}" if self._lively else plain(line)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class Silent(Printed):
    """For `--json`, which is printed whole at the end."""

    def _write(self, text: str) -> None:
        pass


def run(state: Path, *, control: str, servers: Sequence[str], json: bool) -> int:
    lively = sys.stdout.isatty() and "NO_COLOR" not in os.environ and not json
    printed = (Silent if json else Printed)(sys.stdout, lively)
    report = asyncio.run(examine(state, control, servers, printed))
    if json:
        print(msgspec.json.encode(report).decode())
    return 1 if report.failed else 0


async def examine(state: Path, control: str, servers: Sequence[str], printed: Printed) -> Report:
    report = Report()
    running, status = await _running(state)

    def tell(finding: Finding) -> None:
        report.checks.append(finding)
        printed.finding(finding)

    place = computer.Place(state=state, status=status)
    for check in computer.CHECKS:
        tell(check(place))
    tell(running)
    url = control or _control_of(status)
    relays = status.relays if status else ()
    await _network(url, servers, relays, tell, printed)
    if status is not None and status.party is not None:
        report.pairs = party.pairs(status)
        printed.lines(["", *_party_lines(status, report.pairs)])
    printed.lines(["", _verdict(report)])
    return report


async def _running(state: Path) -> tuple[Finding, Status | None]:
    """The running node's status, if there is one."""
    api = api_client.connect(state, API_S)
    if isinstance(api, Refusal):
        return ok("running LANrage", "none in this folder"), None
    answered: Any = await asyncio.to_thread(api.call, "GET", "/api/status")
    if isinstance(answered, Refusal):
        return warn("running LANrage", answered.why, answered.fix), None
    try:
        status = msgspec.convert(answered, Status)
    except msgspec.ValidationError:
        return warn("running LANrage", "it is of another version", "Restart `lanrage up`."), None
    where = f"in the party {status.party.name}" if status.party else "in no party"
    return ok("running LANrage", f"{status.node.name}, {where}"), status


def _control_of(status: Status | None) -> str:
    if status is None or status.party is None:
        return ""
    return status.party.control_connected or next(iter(status.party.control), "")


async def _network(
    url: str, servers: Sequence[str], relays: tuple[RelayView, ...], tell: Tell, printed: Printed
) -> None:
    """The findings about the network, each as soon as it and those before it are there."""
    tell(network.addresses())
    finding, gateway = network.default_gateway()
    tell(finding)
    printed.waiting("finding the servers")
    asked = await _servers(url, servers, relays)
    over_tcp = network.tcp_places(asked, [each.tcp for each in relays])
    asking: list[tuple[str, Coroutine[Any, Any, Finding | Sequence[Finding]]]] = [
        ("does the router open ports?", network.port_opening(gateway)),
        ("does UDP get through?", network.udp(asked, over_tcp)),
        ("does TCP get through as web traffic does?", network.web(over_tcp)),
        ("what does the router do?", network.router(asked, over_tcp)),
        ("is control in reach, and the clock right?", network.control(url)),
        ("how far are the relays?", network.relays(relays)),
    ]
    tasks = [(question, asyncio.create_task(work)) for question, work in asking]
    try:
        async with asyncio.timeout(DEADLINE_S):
            for question, task in tasks:
                printed.waiting(question)
                found = await task
                for each in [found] if isinstance(found, Finding) else found:
                    tell(each)
    except TimeoutError:
        fix = "Look at what was said above, and try again."
        tell(warn("network", f"something did not end within {DEADLINE_S:.0f} s", fix))
    finally:
        for _, task in tasks:
            task.cancel()
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)


async def _servers(url: str, named: Sequence[str], relays: tuple[RelayView, ...]) -> list[str]:
    """Whom to ask over STUN: those named, then relays and control on other computers."""
    found = await asyncio.gather(*(network.resolve(each) for each in named))
    of_control = (await servers_of(url))[:1] if url else []
    others = [*(each.name for each in relays), *of_control]
    elsewhere = [each for each in others if not network.is_own(each)]
    return list(dict.fromkeys([*(each for row in found for each in row), *elsewhere]))


def _party_lines(status: Status, pairs: tuple[party.Pair, ...]) -> list[str]:
    assert status.party is not None
    if not pairs:
        return [f"Nobody else is in {status.party.name} yet."]
    return [f"{status.party.name}: what to expect, and what is", *party.table(pairs)]


def _verdict(report: Report) -> str:
    counts = {kind: sum(each.status == kind for each in report.checks) for kind in COLOURS}
    if counts["fail"]:
        return f"{counts['fail']} failed, {counts['warn']} to look at, {counts['ok']} in order."
    if counts["warn"]:
        return f"Ready to play; {counts['warn']} could be better."
    return "Ready to play."
