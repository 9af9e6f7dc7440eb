"""What a person sees and can do, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from events.nat import NatClassified, NatGathered, NatMapped, NatUnmapped
from events.party import ControlLost, PartyExited, PartyForked
from events.path import PathDoubted, PathLost, PathOpened, PathQuality, PathTrusted
from events.peer import Candidate, PeerNat, PeerOffline
from events.relay import RelayBound, RelayOffered
from events.tunnel import TunnelEstablished
from lanrage import commands as c
from lanrage.refusal import Refusal
from tests.web.http import TOKEN, serving
from tests.web.stage import CONTROL, Stage
from web.server import WebServer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RELAY = "192.0.2.10:3478"
HOSTILE = "<img src=x onerror=hit()>"


async def test_the_token_leaves_the_address_bar_and_survives_a_reload(page: Page) -> None:
    await expect(page.get_by_role("banner")).to_contain_text("Live")
    assert TOKEN not in page.url
    await page.reload()
    await expect(page.get_by_role("banner")).to_contain_text("Live")
    assert TOKEN not in page.url


async def test_without_a_token_the_page_asks_for_one(tab: Page, server: WebServer) -> None:
    await tab.goto(f"http://127.0.0.1:{server.port}/")
    await expect(tab.get_by_role("heading", name="locked")).to_be_visible()
    await tab.get_by_label("Dashboard link or token").fill(f"http://127.0.0.1/#token={TOKEN}")
    await tab.get_by_role("button", name="Unlock").click()
    await expect(tab.get_by_role("heading", name="Play together")).to_be_visible()


async def test_a_wrong_token_locks_the_page(tab: Page, server: WebServer) -> None:
    await tab.goto(f"http://127.0.0.1:{server.port}/#token=wrong")
    await expect(tab.get_by_role("heading", name="locked")).to_be_visible()


async def test_creating_a_party_shows_its_link_to_copy_and_as_qr_code(
    page: Page, stage: Stage, tmp_path: Path
) -> None:
    await expect(page.get_by_text("Every step")).not_to_be_visible()
    await page.screenshot(path=tmp_path / "no-party.png")
    await page.get_by_label("Start your own").fill("Friday night")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name="Friday night")).to_be_visible()
    assert stage.asked == [c.Create(name="Friday night")]
    await page.get_by_role("button", name="Copy the invite link").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("lanrage://join#")
    await page.get_by_role("button", name="QR").click()
    picture = page.get_by_alt_text("QR code")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 20
    await expect(page.get_by_text("Nobody else is here yet")).to_be_visible()
    await page.screenshot(path=tmp_path / "party.png")


async def test_joining_with_a_bad_link_says_why_and_what_to_do(page: Page, stage: Stage) -> None:
    stage.refusal = Refusal("invite_used", "Cannot join", "this invite was used", "Ask Ada.")
    await page.get_by_label("A friend sent you a link?").fill("lanrage://join#AAAA")
    await page.get_by_role("button", name="Join").click()
    refused = page.locator("[data-test=refusal]")
    await expect(refused).to_contain_text("Cannot join: this invite was used. Ask Ada.")
    await refused.get_by_role("button", name="Dismiss").click()
    await expect(refused).to_have_count(0)
    await page.get_by_role("button", name="Join").click()
    await expect(refused).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(refused).to_have_count(0)


async def test_members_appear_with_address_path_and_speed_while_the_page_is_open(
    page: Page, stage: Stage, tmp_path: Path
) -> None:
    await stage.submit(c.Create(name="Friday night"))
    bob = await stage.welcome("Bob", rtt_us=0)
    row = page.locator(f"[data-peer='{bob.peer}']")
    await expect(row).to_have_attribute("data-state", "connecting")
    await stage.connect(bob.peer, 41_000, "203.0.113.7:26666")
    await expect(row).to_have_attribute("data-state", "connected")
    await expect(row).to_contain_text("connected · direct")
    await expect(row).to_contain_text("203.0.113.7:26666")
    await expect(row).to_contain_text("41 ms")
    await stage.measure(bob.peer, 43_000)
    await expect(row).to_contain_text("43 ms")
    await expect(row.locator("polyline")).to_have_count(1)
    await row.get_by_role("button", name="Copy the address of Bob").click()
    assert await page.evaluate("navigator.clipboard.readText()") == "10.66.0.2"
    await page.screenshot(path=tmp_path / "members.png")


async def test_the_founder_can_remove_a_member_after_being_asked(page: Page, stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday night"))
    bob = await stage.welcome("Bob")
    await page.get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("Remove Bob for good?")).to_be_visible()
    await page.get_by_role("button", name="No", exact=True).click()
    await page.get_by_role("button", name="Remove").click()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.locator(f"[data-peer='{bob.peer}']")).to_have_count(0)
    await expect(page.get_by_text("Ada removed Bob")).to_be_visible()


async def test_renaming_inviting_revoking_and_leaving_work_by_keyboard(
    page: Page, stage: Stage
) -> None:
    await stage.submit(c.Create(name="Friday night"))
    rename = page.get_by_role("button", name="Rename")
    await rename.press("Enter")
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(rename).to_be_focused()
    await rename.press("Enter")
    await page.keyboard.type("Ada L")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("banner")).to_contain_text("Ada L")
    await page.get_by_label("Number of players").select_option("3")
    await page.get_by_role("button", name="New link").press("Enter")
    await expect(page.get_by_text("3 places left")).to_be_visible()
    await page.locator(".invites li", has_text="3 places").get_by_role("button").press("Enter")
    await expect(page.get_by_text("3 places left")).to_have_count(0)
    await expect(page.locator("[data-test=invite-link]")).to_have_count(0)
    await page.get_by_role("button", name="Leave party").press("Enter")
    await expect(page.get_by_role("button", name="No", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Leave party")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Yes").press("Enter")
    await expect(page.get_by_role("heading", name="Play together")).to_be_visible()


async def test_the_stream_tells_each_event_in_words_and_can_be_filtered_and_opened(
    page: Page, stage: Stage
) -> None:
    await stage.append(NatMapped(server="192.0.2.1:3478", mapped="198.51.100.4:40001", rtt_ms=21))
    line = page.locator(f"[data-seq='{stage.head}']")
    await expect(line).to_contain_text("192.0.2.1:3478 sees this computer as 198.51.100.4:40001")
    await line.get_by_role("button").click()
    await expect(line.locator("pre")).to_contain_text('"rtt_ms": 21')
    await page.get_by_role("group", name="Show topics").get_by_text("nat").click()
    await expect(line).to_have_count(0)
    await expect(page.locator("[data-type='session.started']")).to_be_visible()
    await page.reload()
    await expect(page.locator("[data-type='session.started']")).to_be_visible()
    await expect(line).to_have_count(0)


async def test_the_stream_follows_the_newest_event_until_one_scrolls_up(
    page: Page, stage: Stage
) -> None:
    for n in range(60):
        await stage.append(NatUnmapped(server=f"192.0.2.{n}:3478", reason="no answer"))
    newest = page.locator(f"[data-seq='{stage.head}']")
    await expect(newest).to_be_in_viewport()
    await page.set_viewport_size({"width": 1280, "height": 600})
    await expect(newest).to_be_in_viewport()
    scroller = page.get_by_label("Events, newest last")
    await scroller.evaluate("list => { list.scrollTop = 0 }")
    await expect(page.get_by_role("button", name="Newest")).to_be_visible()
    await stage.append(NatUnmapped(server="192.0.2.99:3478", reason="no answer"))
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert await scroller.evaluate("list => list.scrollTop") == 0
    await page.get_by_role("button", name="1 new").click()
    await expect(page.locator(f"[data-seq='{stage.head}']")).to_be_in_viewport()


async def test_a_member_that_is_put_out_is_told_so(page: Page, stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday night"))
    await stage.append(PartyExited(party=stage.mesh.party, reason="kicked"))
    await expect(page.get_by_text("The host removed you from the party")).to_be_visible()
    await stage.submit(c.Create(name="Another"))
    await stage.submit(c.Leave())
    await expect(page.get_by_role("heading", name="Play together")).to_be_visible()
    await expect(page.get_by_text("The host removed you from the party")).to_have_count(0)


async def test_trouble_with_control_is_said_where_the_party_is(page: Page, stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday night"))
    party = stage.mesh.party
    card = page.locator(".card.party")
    await expect(card).to_contain_text("Run by this computer")
    await stage.append(ControlLost(party=party, url=CONTROL, reason="no answer"))
    await expect(card).to_contain_text("Out of reach: no answer. Connected friends play on")
    head = stage.mesh.chain.head
    await stage.append(PartyForked(party=party, reason="record 3 differs", length=2, head=head))
    await expect(page.get_by_role("alert")).to_contain_text("record 3 differs")


async def test_a_host_behind_a_router_is_told_whom_the_link_serves(
    page: Page, stage: Stage
) -> None:
    at_home = Candidate(kind="host", address="192.168.1.5:26666")
    outside = Candidate(kind="host", address="198.51.100.4:26666")
    await stage.append(NatGathered(generation=1, candidates=(at_home,)))
    await stage.submit(c.Create(name="Friday night"))
    await expect(page.get_by_text("This works on your own network")).to_be_visible()
    await stage.append(NatGathered(generation=2, candidates=(at_home, outside)))
    await expect(page.get_by_text("This works on your own network")).to_have_count(0)


async def test_a_long_round_trip_looks_worse_than_a_short_one(page: Page, stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday night"))
    colours = set()
    for name, rtt_us in (("Bob", 20_000), ("Eve", 80_000), ("Hal", 200_000)):
        other = await stage.welcome(name, rtt_us=rtt_us)
        figure = page.locator(f"[data-peer='{other.peer}'] .rtt b")
        colours.add(await figure.evaluate("it => getComputedStyle(it).color"))
    assert len(colours) == 3


async def test_a_very_long_log_keeps_the_page_small(page: Page, stage: Stage) -> None:
    for _ in range(40):
        await stage.append(*(NatUnmapped(server=f"s{n}", reason="no answer") for n in range(50)))
    await expect(page.locator(f"[data-seq='{stage.head}']")).to_be_attached()
    assert await page.locator(".event").count() <= 500


async def test_what_others_call_themselves_is_shown_and_never_run(page: Page, stage: Stage) -> None:
    await page.evaluate("() => { window.hit = () => { document.title = 'HIT' } }")
    await stage.submit(c.Create(name=HOSTILE))
    bob = await stage.welcome(HOSTILE)
    path = PathQuality(kind="direct", address=HOSTILE, rtt_us=1)
    await stage.append(
        PathLost(peer=bob.peer, old=path, reason=HOSTILE),
        PeerOffline(peer=bob.peer, reason="<script>hit()</script>"),
    )
    await expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    await expect(page.locator(f"[data-peer='{bob.peer}'] strong")).to_have_text(HOSTILE)
    await expect(page.locator(f"[data-seq='{stage.head}']")).to_contain_text("<script>hit()")
    await page.locator(f"[data-seq='{stage.head}'] button").click()
    assert await page.locator("#app img, #app script").count() == 0
    assert await page.title() == f"{HOSTILE} – LANrage"


async def test_a_lost_connection_is_said_and_mended_without_losing_an_event(
    tab: Page, stage: Stage, built: None, tmp_path: Path
) -> None:
    async with serving(stage) as first:
        port = first.port
        await tab.goto(f"http://127.0.0.1:{port}/#token={TOKEN}")
        await expect(tab.locator("[data-seq='2']")).to_be_attached()
    lost = tab.locator("[data-test=lost]")
    await expect(lost).to_be_visible()
    await tab.screenshot(path=tmp_path / "lost.png")
    await tab.get_by_role("button", name="Try now").click()
    await expect(lost).to_be_visible()
    await stage.append(NatUnmapped(server="192.0.2.1:3478", reason="while away"))
    async with serving(stage, port=port):
        await expect(lost).to_have_count(0, timeout=15_000)
        await expect(tab.get_by_text("while away")).to_be_visible()
        seqs = await tab.locator(".event").evaluate_all("all => all.map(e => +e.dataset.seq)")
        assert seqs == [1, 2, 3]


async def test_a_replay_offers_nothing_to_change(tab: Page, stage: Stage, built: None) -> None:
    await stage.submit(c.Create(name="Friday night"))
    await stage.welcome("Bob")
    async with serving(stage, read_only=True) as server:
        await tab.goto(f"http://127.0.0.1:{server.port}/#token={TOKEN}")
        await expect(tab.get_by_role("banner")).to_contain_text("Replay")
        await expect(tab.get_by_role("heading", name="Friday night")).to_be_visible()
        for name in ("Leave party", "Remove", "Rename", "New link", "Revoke"):
            await expect(tab.get_by_role("button", name=name)).to_have_count(0)


@pytest.mark.parametrize("width", [360, 768, 1280])
async def test_nothing_is_cut_off_at_the_side(
    page: Page, stage: Stage, tmp_path: Path, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await stage.submit(c.Create(name="WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW"))
    await stage.welcome(
        "Bartholomew the Unbreakable, 2nd", address="[2001:db8:1234:5678::9abc]:26666"
    )
    await stage.invite()
    await expect(page.get_by_text("ms", exact=False).first).to_be_visible()
    await expect(page.locator(".member")).to_have_count(2)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.screenshot(path=tmp_path / "wide.png", full_page=True)


async def test_everything_that_can_be_pressed_has_a_name(page: Page, stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday night"))
    await stage.welcome("Bob")
    await expect(page.locator(".member")).to_have_count(2)
    for control in await page.locator("button, input, select").all():
        snapshot = await control.aria_snapshot()
        assert re.search(r'"[^"]+"', snapshot), snapshot


async def test_how_each_member_is_reached_is_told_with_its_router_and_a_forecast(
    page: Page, stage: Stage, tmp_path: Path
) -> None:
    await stage.submit(c.Create(name="Friday night"))
    await stage.append(
        NatClassified(mapping="port", filtering="port", hairpin="no", server=RELAY, evidence=()),
        RelayOffered(relay=RELAY, region="eu-west", tcp="wss://192.0.2.10", boot="ab"),
        RelayBound(
            relay=RELAY, carrier="relay", address="198.51.100.4:1", rtt_us=21_400, took_ms=9
        ),
    )
    bob, eve = [(await stage.welcome(name, rtt_us=0)).peer for name in ("Bob", "Eve")]
    await stage.append(
        PeerNat(peer=bob, mapping="blocked", filtering="blocked", hairpin=""),
        PeerNat(peer=eve, mapping="port", filtering="port", hairpin="no"),
    )
    row = page.locator(f"[data-peer='{bob}']")
    await expect(row.locator("[data-test=forecast]")).to_contain_text("Forecast: tcp.")
    await expect(row).to_contain_text("UDP blocked")
    tcp = PathQuality(kind="tcp", address="192.0.2.10:443", rtt_us=140_000, relay=RELAY)
    relayed = PathQuality(kind="relay", address=RELAY, rtt_us=62_000, relay=RELAY)
    await stage.append(
        *(PathOpened(peer=bob, path=tcp, took_ms=300), TunnelEstablished(peer=bob, took_ms=9)),
        *(PathOpened(peer=eve, path=relayed, took_ms=99), TunnelEstablished(peer=eve, took_ms=9)),
        PathDoubted(peer=eve, path=relayed, second=None, silent_ms=2_100),
    )
    await expect(row).to_contain_text("through TCP")
    await expect(row.locator(".caution")).to_have_text("slow: no UDP")
    await expect(row).to_contain_text("UDP is blocked at Bob")
    await expect(row.locator("[data-test=forecast]")).to_have_count(0)
    other = page.locator(f"[data-peer='{eve}']")
    await expect(other.locator(".caution")).to_have_text("silent at this moment")
    await stage.append(PathTrusted(peer=eve, path=relayed, after_ms=400))
    await expect(other.locator(".caution")).to_have_count(0)
    await expect(other).to_contain_text("Through the relay 192.0.2.10:3478 (eu-west)")
    card = page.locator(f"[data-relay='{RELAY}']")
    await expect(card).to_contain_text("eu-west")
    await expect(card).to_contain_text("21 ms")
    await expect(page.get_by_text("Eve answers again")).to_be_visible()
    await page.screenshot(path=tmp_path / "relays.png")
