"""Everything real: nodes, routers, tunnels, control, server, browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.real import another_link, create, scene

pytestmark = [pytest.mark.browser, pytest.mark.root]

CONNECT_MS_MAX = 20_000


def test_a_party_of_three_meets_on_the_page(built: None, tmp_path: Path) -> None:
    with scene() as (page, alice, bob, carol):
        link = create(page, "Friday night")
        bob.must("join", link)
        expect(page.get_by_role("heading", name="Friday night")).to_be_visible()
        carol.must("join", another_link(page, link))
        for guest in (bob, carol):
            assert guest.ready is not None
            row = page.locator(f"[data-peer='{guest.ready.peer}']")
            expect(row).to_have_attribute("data-state", "connected", timeout=CONNECT_MS_MAX)
            expect(row).to_contain_text(guest.address())
            expect(row.locator(".rtt")).to_have_text(re.compile(r"\d+(\.\d)? ms"))
        expect(page.locator("[data-type='peer.joined']")).to_have_count(2)
        page.screenshot(path=tmp_path / "party-of-three.png")

        page.get_by_role("button", name="Leave party").click()
        page.get_by_role("button", name="Yes", exact=True).click()
        expect(page.get_by_role("heading", name="Play together")).to_be_visible(timeout=15_000)
        alice.stop()
        expect(page.locator("[data-test=lost]")).to_be_visible(timeout=15_000)


def test_a_damaged_link_is_refused_on_the_page_in_one_line(built: None) -> None:
    with scene() as (page, _, bob, _carol):
        link = bob.create("Elsewhere")
        page.get_by_label("A friend sent you a link?").fill(link[:-9] + "A" + link[-8:])
        page.get_by_role("button", name="Join").click()
        refused = page.locator("[data-test=refusal]")
        expect(refused).to_contain_text("Cannot join", timeout=15_000)
        expect(page.get_by_role("heading", name="Play together")).to_be_visible()
