"""A node that does not read: figures are left out, and in the end it counts as gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lanrage.refusal import Refusal
from lanrage.tunnel import process as tunnel
from lanrage.tunnel.messages import Counters, Failed
from lanrage.tunnel.process import Process

NOTICE = Failed(refusal=Refusal("address", "what", "x" * 10_000, ""))


@pytest.fixture
def deaf() -> Iterator[Process]:
    """A process whose node reads nothing; its socket is full already."""
    node, ours = socket.socketpair()
    with node, ours:
        process = Process(ours)
        process._loop.add(ours.fileno(), process._on_node)
        while not process._unsent:
            process._tell(NOTICE)
        yield process


def test_figures_are_not_kept_for_a_node_that_does_not_read(deaf: Process) -> None:
    waiting = len(deaf._unsent)
    deaf._tell(Counters(peers=(), drops={}))
    assert len(deaf._unsent) == waiting


def test_what_waits_for_a_node_that_does_not_read_is_bounded(
    deaf: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _tell_much(deaf)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "tunnel: the node does not read\n"


def _tell_much(process: Process) -> None:
    for _ in range(2 * tunnel.UNSENT_MAX // 10_000):
        process._tell(NOTICE)
