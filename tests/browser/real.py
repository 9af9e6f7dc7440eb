"""A real party behind real routers, with the dashboard of alice open in a real browser.

`python -m tests.browser.picture` makes the README's picture from the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from playwright.sync_api import Page, expect, sync_playwright

from lanrage.lab.doorway import Doorway
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, Player
from lanrage.lab.topology import two_homes

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = "/usr/bin/chromium"


class Scene(NamedTuple):
    page: Page
    alice: Player
    bob: Player
    carol: Player


@contextmanager
def scene(*, height: int = 860, scale: float = 1) -> Iterator[Scene]:
    """Three nodes in no party; the page of alice is open."""
    with Lab(two_homes(one_way_ms=20.0)) as lab:
        doorway = Doorway()
        try:
            control = Control(lab.computer("control"), lab.folder / "state-control")
            control.start()
            alice, bob, carol = (
                Player(lab.computer(name), lab.folder / f"state-{name}")
                for name in ("alice", "bob", "carol")
            )
            for player in (alice, bob, carol):
                port = doorway.port if player is alice else 8666
                player.start("--control", control.url, "--api", f"127.0.0.1:{port}")
            doorway.open_to(alice.computer)
            assert alice.ready is not None
            with _browser(alice.ready.dashboard, height, scale) as page:
                yield Scene(page, alice, bob, carol)
        finally:
            doorway.close()


@contextmanager
def _browser(dashboard: str, height: int, scale: float) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(
            viewport={"width": 1280, "height": height},
            device_scale_factor=scale,
            permissions=["clipboard-read", "clipboard-write"],
        )
        page = context.new_page()
        page.goto(dashboard)
        yield page
        browser.close()


def create(page: Page, party: str) -> str:
    """Create a party on the page, and copy its link there."""
    page.get_by_label("Start your own").fill(party)
    page.get_by_role("button", name="Create").click()
    return copied_link(page)


def another_link(page: Page, old: str) -> str:
    """Make a new one on the page, and copy it there."""
    page.get_by_role("button", name="New link").click()
    expect(page.locator("[data-test=invite-link]")).not_to_contain_text(old)
    return copied_link(page)


def copied_link(page: Page) -> str:
    page.get_by_role("button", name="Copy the invite link").click(timeout=15_000)
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text
