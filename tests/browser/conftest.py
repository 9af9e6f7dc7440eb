"""Debian's Chromium, driven by Playwright, over the real server and page. One for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright
from pytest_asyncio import fixture

from tests.browser.real import ARGUMENTS, CHROMIUM
from tests.web.http import TOKEN, serving
from tests.web.stage import Stage
from web import build
from web.server import WebServer


@pytest.fixture(scope="session")
def built() -> None:
    build.build()


@fixture(loop_scope="session")
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = await Stage.open(tmp_path)
    yield stage
    await stage.log.close()


@fixture(loop_scope="session")
async def server(stage: Stage, built: None) -> AsyncIterator[WebServer]:
    async with serving(stage) as server:
        yield server


@fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@fixture(loop_scope="session")
async def tab(browser: Browser) -> AsyncIterator[Page]:
    """An empty one, with nothing kept from before."""
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


@fixture(loop_scope="session")
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
