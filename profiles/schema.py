"""What one game needs of a virtual LAN, as data that players can write.

A profile is one JSON file. This struct is its only definition: the reader, the published JSON
Schema (`schema.json`, for editors) and the messages about mistakes all come from it. A field that
does not exist is an error, because a misspelt optional field would otherwise do nothing, silently.

Facts carry where they are known from. `verified` stays false until a lobby of the real game on one
member has been seen by the real game on another, across a party.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

ENTRIES_MAX = 32  # in any one list of a profile
MTU_MIN = 1280  # what IPv6 asks of every link, RFC 8200 section 5
MTU_MAX = 1420  # 1500 less the outer IPv6, UDP and WireGuard headers

Id: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Line: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
PortNumber: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
Confidence: TypeAlias = Literal["high", "medium", "low"]


class _Part(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    pass


class Port(_Part, frozen=True, kw_only=True):
    """One port, or all from `first` to `last`."""

    protocol: Literal["udp", "tcp"]
    first: PortNumber
    last: Annotated[int, Meta(ge=0, le=65_535)] = 0  # 0: the same as `first`
    use: Line


class Discovery(_Part, frozen=True, kw_only=True):
    """How the game finds others. `query`: who searches asks; `announce`: who hosts tells."""

    method: Literal["broadcast", "multicast", "mdns", "ssdp", "ipx"]
    direction: Literal["query", "announce", "both"]
    ports: Annotated[tuple[Port, ...], Meta(min_length=1, max_length=ENTRIES_MAX)]
    same_source_port: bool = False  # asks from the port it asks at


class Source(_Part, frozen=True, kw_only=True):
    """Where some of the facts are from, and how far to trust them."""

    facts: Annotated[
        tuple[Literal["processes", "ports", "discovery", "groups", "dscp"], ...],
        Meta(min_length=1, max_length=ENTRIES_MAX),
    ]
    confidence: Confidence
    reference: Line


class Profile(_Part, frozen=True, kw_only=True):
    """What the party's network does differently while this game is played."""

    id: Id  # also the file's name
    name: Line
    processes: Annotated[tuple[Line, ...], Meta(max_length=ENTRIES_MAX)] = ()  # ends of their paths
    ports: Annotated[tuple[Port, ...], Meta(max_length=ENTRIES_MAX)] = ()
    discovery: Annotated[tuple[Discovery, ...], Meta(max_length=ENTRIES_MAX)] = ()
    groups: Annotated[tuple[Line, ...], Meta(max_length=ENTRIES_MAX)] = ()  # multicast addresses
    dscp: Annotated[int, Meta(ge=0, le=63)] = 0  # mark of the outer packets, RFC 4594
    mtu: Annotated[int, Meta(ge=MTU_MIN, le=MTU_MAX)] = MTU_MAX
    keepalive_s: Annotated[int, Meta(ge=0, le=120)] = 25  # 0: none
    notes: Annotated[tuple[Line, ...], Meta(max_length=ENTRIES_MAX)] = ()  # for players
    verified: bool = False
    sources: Annotated[tuple[Source, ...], Meta(max_length=ENTRIES_MAX)] = ()


def parse(text: bytes, where: str) -> Profile | tuple[str, ...]:
    """The profile, or everything that is wrong with it, each line as `where: field: what`."""
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return (_mistake(where, str(error)),)
    return tuple(f"{where}: {line}" for line in _contradictions(profile)) or profile


def published() -> bytes:
    """The JSON Schema (draft 2020-12) that `schema.json` holds."""
    return (
        msgspec.json.format(
            msgspec.json.encode(msgspec.json.schema(Profile), order="deterministic"), indent=2
        )
        + b"\n"
    )


def _mistake(where: str, message: str) -> str:
    """msgspec says "what - at `$.field[0]`"; people look for the field first."""
    what, at, field = message.partition(" - at `$")
    return f"{where}: {field.strip('.`')}: {what}" if at else f"{where}: {what}"


def _contradictions(profile: Profile) -> list[str]:
    """What is wrong between fields that are each well formed."""
    found: list[str] = []
    lists = [("ports", profile.ports)]
    lists += [(f"discovery[{n}].ports", entry.ports) for n, entry in enumerate(profile.discovery)]
    for field, ports in lists:
        found += [
            f"{field}[{n}].last: {port.last} comes before {port.first}"
            for n, port in enumerate(ports)
            if port.last and port.last < port.first
        ]
    found += [
        f"groups[{n}]: {group!r} is no multicast address"
        for n, group in enumerate(profile.groups)
        if not _is_multicast(group)
    ]
    if profile.groups and not any(entry.method != "broadcast" for entry in profile.discovery):
        found.append("groups: no discovery entry uses a group")
    return found


def _is_multicast(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_multicast
    except ValueError:
        return False
