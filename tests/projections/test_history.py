"""One line for each event: every type has words, with what explains it."""

from __future__ import annotations

import pytest

from events import nat, path, peer, relay
from events.base import Event
from events.path import PathQuality
from projections.history import describe
from tests.events import samples

AT = "192.0.2.1:3478"
DIRECT = PathQuality(kind="direct", address="203.0.113.7:26666", rtt_us=41_000)
RELAYED = PathQuality(kind="relay", address=AT, rtt_us=62_000, relay=AT)


@pytest.mark.parametrize("event", samples.SAMPLES, ids=lambda each: type(each).TYPE)
def test_every_event_has_words(event: Event) -> None:
    line = describe(event, {})
    assert line != type(event).TYPE
    assert "\n" not in line


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            nat.NatClassified(
                mapping="port", filtering="port", hairpin="no", server=AT, evidence=("x",)
            ),
            "hard NAT (mapping port, filtering port, hairpin no)",
        ),
        (
            nat.NatClassified(
                mapping="", filtering="", hairpin="", server="", evidence=("silence",)
            ),
            "not known: silence",
        ),
        (peer.PeerNat(peer="b", mapping="blocked", filtering="blocked", hairpin=""), "UDP blocked"),
        (
            path.PathDoubted(peer="b", path=DIRECT, second=RELAYED, silent_ms=2_100),
            "relay 192.0.2.1",
        ),
        (path.PathDoubted(peer="b", path=DIRECT, second=None, silent_ms=2_100), "no other"),
        (relay.RelayPicked(peer="b", relay="", sum_ms=0, reason="none left"), "no relay for bob"),
        (
            relay.RelayBound(relay=AT, carrier="tcp", address="x", rtt_us=9_000, took_ms=3),
            "over TCP after 3 ms",
        ),
    ],
)
def test_what_explains_it_is_in_the_line(event: Event, words: str) -> None:
    assert words in describe(event, {"b": "bob"})
