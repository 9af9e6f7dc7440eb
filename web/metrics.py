"""Figures for Prometheus, in its text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator

from projections.lobby import PeerView, Status

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(status: Status, *, head: int, readers: int) -> str:
    return "\n".join([*_lines(status, head, readers), ""])


def _lines(status: Status, head: int, readers: int) -> Iterator[str]:
    yield from _metric("lanrage_events_total", "counter", "Events in the log.", {"": head})
    yield from _metric("lanrage_stream_readers", "gauge", "Open event streams.", {"": readers})
    length = status.party.head.length if status.party else 0
    yield from _metric("lanrage_party_records", "gauge", "Length of the chain.", {"": length})
    states = dict.fromkeys(("connected", "connecting", "offline"), 0)
    for peer in status.peers:
        states[peer.state] += 1
    counts = {f'{{state="{state}"}}': count for state, count in states.items()}
    yield from _metric("lanrage_peers", "gauge", "Other members by state.", counts)
    labels = {_labels(peer): peer for peer in status.peers}
    rtt = {at: peer.path.rtt_ms / 1000 for at, peer in labels.items() if peer.path}
    loss = {at: peer.path.loss for at, peer in labels.items() if peer.path}
    received = {at: peer.rx_bytes for at, peer in labels.items()}
    sent = {at: peer.tx_bytes for at, peer in labels.items()}
    yield from _metric("lanrage_peer_rtt_seconds", "gauge", "Round trip of the path.", rtt)
    yield from _metric("lanrage_peer_loss_ratio", "gauge", "Probes lost on the path.", loss)
    yield from _metric("lanrage_peer_received_bytes_total", "counter", "From a member.", received)
    yield from _metric("lanrage_peer_sent_bytes_total", "counter", "To a member.", sent)


def _metric(
    name: str, kind: str, meaning: str, values: dict[str, int] | dict[str, float]
) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"


def _labels(peer: PeerView) -> str:
    name = peer.name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{peer="{peer.id}",name="{name}"}}'
