"""The README's picture, a real party: `python -m tests.browser.picture`, as root."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.real import another_link, create, scene
from web.build import UI, build

WATCH_MS = 60_000  # so that the round trips have drawn a line


def main() -> None:
    build()
    with scene(height=880) as (page, _, bob, carol):
        link = create(page, "Friday night")
        bob.must("join", link)
        carol.must("join", another_link(page, link))
        expect(page.locator("[data-state=connected]")).to_have_count(2, timeout=20_000)
        page.get_by_label("Number of players").select_option("5")
        page.get_by_role("button", name="New link").click()
        expect(page.locator("[data-test=invite-link]")).to_be_visible()
        page.wait_for_timeout(WATCH_MS)
        page.screenshot(path=UI / "screenshot.png")


if __name__ == "__main__":
    main()
