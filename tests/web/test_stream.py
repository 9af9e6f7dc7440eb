"""The live stream: nothing lost, nothing twice, whoever reads and however slowly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from events.base import Stored
from events.nat import NatUnmapped
from events.profile import ProfileChosen
from lanrage.commands import Create
from tests.web.http import Stream, call, serving
from tests.web.stage import Stage
from web import feed as feeds
from web.feed import Feed


def noise(n: int) -> NatUnmapped:
    return NatUnmapped(server=f"192.0.2.{n % 250}:3478", reason="no answer " * (n % 9))


def choice(n: int) -> ProfileChosen:
    return ProfileChosen(profile=f"p{n}", reason="by the player", mtu=1420, keepalive_s=25)


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [each["seq"] for each in events]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells a bystander
            await asyncio.sleep(0.01)


async def read_feed(feed: Feed, after: int, count: int, glob: str | None = None) -> list[int]:
    """Sequence numbers of the next `count` events, straight from the feed."""
    found: list[int] = []
    reader = feed.read(after, glob)
    async for chunk in reader:
        lines = chunk.decode().split("\n")
        found += [int(line[4:]) for line in lines if line.startswith("id: ")]
        if len(found) >= count:
            break
    await reader.aclose()  # type: ignore[attr-defined]
    return found[:count]


async def test_what_is_stored_comes_first_and_then_what_happens(stage: Stage) -> None:
    async with serving(stage) as server, Stream.open(server.port) as stream:
        assert seqs(await stream.events(2)) == [1, 2]
        await stage.append(noise(1))
        [event] = await stream.events(1)
    [stored] = await stage.read(2, 1)
    assert event == msgspec.json.decode(msgspec.json.encode(stored))


async def test_a_reader_can_cut_off_anywhere_and_resume_while_events_pour_in(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RING_FRAMES_MAX", 16)
    monkeypatch.setattr(feeds, "LOG_ROWS_MAX", 7)
    total = 600

    async def pour() -> None:
        for n in range(0, total, 6):
            await stage.append(*(noise(n + i) for i in range(6)))
            await asyncio.sleep(0)

    async def follow(port: int, step: int) -> list[int]:
        found: list[int] = []
        while len(found) < total + 2:
            headers = {"Last-Event-ID": str(found[-1])} if found else {}
            async with Stream.open(port, headers=headers) as stream:
                wanted = min(step + len(found) % 11, total + 2 - len(found))
                found += seqs(await stream.events(wanted))
        return found

    async with serving(stage) as server:
        pouring = asyncio.create_task(pour())
        readers = await asyncio.gather(*(follow(server.port, step) for step in (23, 57, 700)))
        await pouring
    for found in readers:
        assert found == list(range(1, total + 3))


async def test_last_event_id_counts_more_than_after(stage: Stage) -> None:
    await stage.append(*(noise(n) for n in range(8)))
    async with serving(stage) as server:
        headers = {"Last-Event-ID": "7"}
        async with Stream.open(server.port, "?after=2", headers) as stream:
            assert seqs(await stream.events(2)) == [8, 9]
        async with Stream.open(server.port, "?after=-3") as stream:
            assert seqs(await stream.events(3)) == [8, 9, 10]


async def test_a_filter_holds_for_stored_and_live_events(stage: Stage) -> None:
    await stage.append(noise(1), choice(1), noise(2))
    async with (
        serving(stage) as server,
        Stream.open(server.port, "?type=profile.*") as stream,
    ):
        assert seqs(await stream.events(1)) == [4]
        await stage.append(noise(3), choice(2))
        assert seqs(await stream.events(1)) == [7]


async def test_a_log_that_is_not_the_one_it_knew_makes_the_reader_start_anew(
    stage: Stage,
) -> None:
    headers = {"Last-Event-ID": "999"}
    async with serving(stage) as server, Stream.open(server.port, headers=headers) as stream:
        kinds = []
        async for message in stream.messages():
            kinds.append((message.event, message.id))
            if message.id == "2":
                break
    assert kinds[:4] == [("hello", ""), ("reset", "0"), ("message", "1"), ("message", "2")]


async def test_status_is_told_when_it_changes_and_not_more_often_than_allowed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "STATUS_INTERVAL_S", 0.2)
    await stage.submit(Create(name="Friday"))
    bob = await stage.welcome("Bob")
    found: list[float] = []
    async with serving(stage) as server, Stream.open(server.port) as stream:

        async def shake() -> None:
            for n in range(1, 101):
                await stage.measure(bob.peer, 41_000 + 1000 * n)
                await asyncio.sleep(0.005)  # the pace of the changes is what is tested

        shaking = asyncio.create_task(shake())
        async for message in stream.messages():
            if message.event == "status":
                found.append(msgspec.json.decode(message.data)["peers"][0]["path"]["rtt_ms"])
                if found[-1] == 141:
                    break
        await shaking
    assert found == sorted(set(found))
    assert 3 <= len(found) <= 7


async def test_a_reader_that_reads_nothing_costs_no_memory_and_misses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RING_FRAMES_MAX", 32)
    feed = Feed(stage, read_only=False)
    slow, quick = feed.read(0), feed.read(0)
    await anext(slow)
    await anext(quick)
    for n in range(300):
        await stage.append(*(noise(n) for _ in range(5)))
    async with asyncio.timeout(10):
        while feed._tip() < stage.head:
            await anext(quick)
    assert len(feed._ring) == 32
    text = b""
    async with asyncio.timeout(10):
        while f"id: {stage.head}\n".encode() not in text:
            text += await anext(slow)
    ids = [int(line[4:]) for line in text.decode().split("\n") if line.startswith("id: ")]
    assert ids == list(range(1, stage.head + 1))
    await slow.aclose()  # type: ignore[attr-defined]
    await quick.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("limit", "most"), [("RING_FRAMES_MAX", 8), ("RING_BYTES_MAX", 2_000)])
async def test_what_is_kept_for_readers_is_bounded_in_number_and_in_bytes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(feeds, limit, most)
    feed = Feed(stage, read_only=False)
    reader = feed.read(stage.head)
    await anext(reader)
    seen = b""
    for n in range(40):
        await stage.append(noise(n))
        while b"id: %d\n" % stage.head not in seen:
            seen = await anext(reader)
    kept = feed._ring
    assert kept[-1].seq == stage.head
    assert 0 < len(kept) <= feeds.RING_FRAMES_MAX
    assert sum(len(each.data) for each in kept) <= feeds.RING_BYTES_MAX
    assert len(kept) < 40
    await reader.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_is_behind_is_given_bounded_pieces(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "CHUNK_BYTES_MAX", 1_000)
    feed = Feed(stage, read_only=False)
    behind, quick = feed.read(stage.head), feed.read(stage.head)
    await anext(behind)
    await anext(quick)
    await stage.append(*(noise(n) for n in range(50)))
    while feed._tip() < stage.head:
        await anext(quick)
    longest = max(len(each.data) for each in feed._ring)
    status = len(b"event: status\ndata: \n\n" + feed._status)
    text = b""
    while b"id: %d\n" % stage.head not in text:
        piece = await anext(behind)
        assert len(piece) <= 1_000 + longest + status
        text += piece
    await behind.aclose()  # type: ignore[attr-defined]
    await quick.aclose()  # type: ignore[attr-defined]


async def test_a_reader_whose_filter_matches_nothing_waits_instead_of_asking_the_log_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.append(*(noise(n) for n in range(5)))
    asked: list[int] = []
    read = stage.read

    async def counted(after: int, limit: int, type_glob: str | None = None) -> Sequence[Stored]:
        asked.append(after)
        return await read(after, limit, type_glob)

    monkeypatch.setattr(stage, "read", counted)
    feed = Feed(stage, read_only=False)
    reading = asyncio.create_task(_drain(feed.read(0, "profile.*")))
    await asyncio.wait({reading}, timeout=0.3)  # that nothing happens can only be waited for
    assert len(asked) == 1
    feed.close()
    await reading


async def _drain(reader: AsyncIterator[bytes]) -> None:
    async for _ in reader:
        pass


async def test_a_client_that_stops_reading_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.app.SEND_TIMEOUT_S", 0.2)
    big = [choice(0).__class__(profile="x" * 60_000, reason="", mtu=1, keepalive_s=1)] * 40
    async with serving(stage) as server, Stream.open(server.port) as stream:
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(8):
            await stage.append(*big)
        await until(lambda: server._app._feed.readers == 0)


async def test_only_so_many_streams_are_open_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.app.READERS_MAX", 1)
    async with serving(stage) as server, Stream.open(server.port) as stream:
        await anext(stream.messages())
        refused = await call(server.port, "GET", "/api/events/stream")
        assert (refused.status, refused.json["code"]) == (503, "too_many_streams")


async def test_nothing_runs_while_nobody_reads(stage: Stage) -> None:
    feed = Feed(stage, read_only=False)
    assert await read_feed(feed, 0, 2) == [1, 2]
    assert feed.readers == 0
    assert feed._tasks == ()
    await stage.append(noise(1))
    assert await read_feed(feed, 1, 2) == [2, 3]


async def test_one_encoding_is_shared_by_all_readers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    real = feeds.frame

    def counted(stored: Any) -> feeds.Frame:
        nonlocal made
        made += 1
        return real(stored)

    monkeypatch.setattr(feeds, "frame", counted)
    feed = Feed(stage, read_only=False)
    readers = [asyncio.create_task(read_feed(feed, 2, 50)) for _ in range(10)]
    await until(lambda: feed.readers == 10)
    for n in range(50):
        await stage.append(noise(n))
    assert await asyncio.gather(*readers) == [list(range(3, 53))] * 10
    assert made == 50


async def test_closing_ends_open_streams_promptly(stage: Stage) -> None:
    async with serving(stage) as server, Stream.open(server.port) as stream:
        await stream.events(2)
        before = time.monotonic()
        closing = asyncio.create_task(server.close())
        async for _ in stream.messages():
            pass
        await closing
        assert time.monotonic() - before < 1.0


async def test_closing_does_not_wait_for_a_client_that_reads_nothing(stage: Stage) -> None:
    big = [choice(0).__class__(profile="x" * 60_000, reason="", mtu=1, keepalive_s=1)] * 200
    async with serving(stage) as server, Stream.open(server.port) as stream:
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stage.append(*big)
        await asyncio.sleep(0.1)  # nothing tells when the server is stuck in its send
        before = time.monotonic()
        await server.close()
        assert time.monotonic() - before < 3.0


async def test_streams_end_with_the_log(stage: Stage) -> None:
    async with serving(stage) as server, Stream.open(server.port) as stream:
        await stream.events(2)
        await stage.log.close()
        async for _ in stream.messages():
            pass


async def test_events_of_a_newer_lanrage_pass_through_as_they_are(stage: Stage) -> None:
    raw = msgspec.Raw(b'{"a":\n1,\r\n"b":"\\n"}')
    [stored] = await stage.read(0, 1)
    newer = msgspec.structs.replace(stored, type="teleport.opened/7", data=raw)
    text = feeds.frame(newer).data.decode()
    assert text.count("\n") == 3
    line = text.split("\n")[1].removeprefix("data: ")
    assert msgspec.json.decode(line)["data"] == {"a": 1, "b": "\n"}
