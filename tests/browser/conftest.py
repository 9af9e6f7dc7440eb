"""Debian's Chromium, driven by Playwright, over the real server and page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.web.http import TOKEN, serving
from tests.web.stage import Stage
from web import build
from web.server import WebServer

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def built() -> None:
    build.build()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = await Stage.open(tmp_path)
    yield stage
    await stage.log.close()


@pytest.fixture
async def server(stage: Stage, built: None) -> AsyncIterator[WebServer]:
    async with serving(stage) as server:
        yield server


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=ARGUMENTS
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, server: WebServer) -> AsyncIterator[Page]:
    """The dashboard, opened by its link. Any error on its console fails the test."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    origin = f"http://127.0.0.1:{server.port}"
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if "Security Policy" in said.text else None,
    )
    await page.goto(f"{origin}/#token={TOKEN}")
    yield page
    await context.close()
    assert complaints == []
