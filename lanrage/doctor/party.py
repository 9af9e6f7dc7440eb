"""What to expect of each pair with us, beside what it uses now: from the running node's status."""

from __future__ import annotations

import msgspec

from projections.lobby import PeerView, Status

ORDER = ("direct", "relay", "tcp")  # from best to worst


class Pair(msgspec.Struct, frozen=True):
    name: str
    nat: str  # its router's class; empty: not known
    forecast: str  # "direct" | "likely direct" | "relay" | "tcp"
    expected_why: str
    now: str  # "direct" | "relay" | "tcp"; empty: none
    rtt_ms: float
    why: str  # of what is in use, or what stands in the way
    as_expected: bool  # or better


def pairs(status: Status) -> tuple[Pair, ...]:
    return tuple(map(_pair, status.peers))


def _pair(peer: PeerView) -> Pair:
    kind = peer.path.kind if peer.path else ""
    expected = peer.forecast.kind.removeprefix("likely ")
    return Pair(
        name=peer.name,
        nat=peer.nat,
        forecast=peer.forecast.kind,
        expected_why=peer.forecast.why,
        now=kind,
        rtt_ms=peer.path.rtt_ms if peer.path else 0.0,
        why=peer.why,
        as_expected=not kind or ORDER.index(kind) <= ORDER.index(expected),
    )


def table(found: tuple[Pair, ...]) -> list[str]:
    """Lines of text; a pair whose path is worse than was to be expected says why, twice."""
    rows = [("member", "its router", "forecast", "now")]
    rows += [(each.name, each.nat or "not known", each.forecast, _now(each)) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row, pair in zip(rows, (None, *found), strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if pair is None:
            continue
        lines.append(f"  {pair.why}")
        if pair.expected_why not in pair.why and (not pair.now or not pair.as_expected):
            lines.append(f"  Forecast: {pair.expected_why}")
    return lines


def _now(pair: Pair) -> str:
    if not pair.now:
        return "not connected"
    return f"{pair.now}, {pair.rtt_ms:.1f} ms"
