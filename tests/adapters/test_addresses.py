"""Addresses from rtnetlink, in a network namespace of our own where we can change them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from lanrage.adapters.addresses import ADDRESSES_MAX, AddressWatch, addresses

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
TUNNEL = "lrp-tun"


def ip(namespace: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", namespace, *arguments], check=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with two interfaces, each with its other end (and so its carrier) beside it."""
    name = f"lrp-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        ip(name, "link", "set", "lo", "up")
        for link in ("lrp-lan", TUNNEL):
            ip(name, "link", "add", link, "type", "veth", "peer", "name", f"{link}-far")
            ip(name, "link", "set", link, "up")
            ip(name, "link", "set", f"{link}-far", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)


def inside(namespace: str, call: Callable[[], T]) -> T:
    """The call's result from a thread that moved into the namespace and ends there."""

    def enter_and_call() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        with (Path("/run/netns") / namespace).open() as handle:
            assert libc.setns(handle.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter_and_call).result(timeout=20)


def inside_loop(namespace: str, call: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        async with asyncio.timeout(15):
            return await call()

    return inside(namespace, lambda: asyncio.run(run()))


@pytest.mark.root
def test_only_addresses_others_could_use_are_listed_in_order(namespace: str) -> None:
    ip(namespace, "addr", "add", "192.168.7.2/24", "dev", "lrp-lan")
    ip(namespace, "addr", "add", "10.1.2.3/8", "dev", "lrp-lan")
    ip(namespace, "addr", "add", "fd00:7::2/64", "dev", "lrp-lan", "nodad")
    ip(namespace, "addr", "add", "fd00:7::3/64", "dev", "lrp-lan", "nodad", "preferred_lft", "0")
    ip(namespace, "addr", "add", "10.66.0.1/16", "dev", TUNNEL)
    ip(namespace, "addr", "add", "10.9.9.9/32", "dev", "lo")
    found = inside(namespace, lambda: addresses(TUNNEL))
    assert found == ("10.1.2.3", "192.168.7.2", "fd00:7::2")


@pytest.mark.root
def test_the_own_end_of_a_point_to_point_link_is_listed(namespace: str) -> None:
    ip(namespace, "addr", "add", "192.168.8.1", "peer", "192.168.8.2", "dev", "lrp-lan")
    assert inside(namespace, lambda: addresses(TUNNEL)) == ("192.168.8.1",)


@pytest.mark.root
def test_an_interface_that_is_down_lists_nothing(namespace: str) -> None:
    ip(namespace, "addr", "add", "192.168.7.2/24", "dev", "lrp-lan")
    ip(namespace, "link", "set", "lrp-lan", "down")
    assert inside(namespace, lambda: addresses(TUNNEL)) == ()


@pytest.mark.root
def test_hundreds_of_addresses_are_read_whole_and_cut_to_the_limit(namespace: str) -> None:
    batch = "\n".join(
        f"addr add 172.16.{n // 200}.{n % 200 + 1}/32 dev lrp-lan" for n in range(600)
    )
    command = ["ip", "-n", namespace, "-batch", "-"]
    subprocess.run(command, input=batch, text=True, check=True, timeout=20)
    found = inside(namespace, lambda: addresses(TUNNEL))
    assert found == tuple(f"172.16.0.{n}" for n in range(1, ADDRESSES_MAX + 1))


@pytest.mark.root
def test_a_watch_tells_the_list_at_once_and_again_when_it_differs(namespace: str) -> None:
    ip(namespace, "addr", "add", "192.168.7.2/24", "dev", "lrp-lan")

    async def watch() -> list[tuple[str, ...]]:
        seen = []
        watching = AddressWatch(TUNNEL)
        async for found in watching:
            seen.append(found)
            if len(seen) == 1:  # a change that does not count, then a burst that does
                ip(namespace, "addr", "add", "10.66.0.1/16", "dev", TUNNEL)
                ip(namespace, "addr", "add", "192.168.7.3/24", "dev", "lrp-lan")
                ip(namespace, "addr", "add", "192.168.7.4/24", "dev", "lrp-lan")
            elif len(seen) == 2:
                ip(namespace, "link", "set", "lrp-lan", "down")
            else:
                watching.close()
        return seen

    both = ("192.168.7.2", "192.168.7.3", "192.168.7.4")
    assert inside_loop(namespace, watch) == [("192.168.7.2",), both, ()]


async def test_closing_ends_a_waiting_watch() -> None:
    watching = AddressWatch("none-such")
    await anext(watching)
    waiting = asyncio.ensure_future(anext(watching, None))
    await asyncio.sleep(0)
    watching.close()
    assert await asyncio.wait_for(waiting, 5) is None
