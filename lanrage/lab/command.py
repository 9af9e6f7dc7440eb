"""`lanrage lab`: the lab by hand. `up` holds one open in the foreground; the others look at it.

lanrage lab                    draw the usual lab
lanrage lab up [FILE]          build it (or the topology in FILE, as JSON) until Ctrl-C
lanrage lab show               what runs: every node, its namespace and address
lanrage lab exec NODE CMD...   run a command on a node
lanrage lab down [LAB]         end what runs, and sweep what dead processes left
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lanrage.lab import namespaces, topology
from lanrage.lab.lab import Lab
from lanrage.lab.topology import Topology
from lanrage.refusal import Refusal

DOWN_S_MAX = 30.0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One running lab, as `show --json` prints it."""

    lab: str
    nodes: dict[str, dict[str, str]]  # name -> namespace, address
    topology: Topology


def run(words: Sequence[str]) -> Refusal | int:
    """`lanrage lab WORDS`: its exit status, or why not."""
    asked = _parser().parse_args(words)
    if asked.verb is None:
        return _draw(asked.json)
    refused = namespaces.missing()
    if refused is not None:
        return refused
    if asked.verb == "up":
        return _up(asked.file, asked.json)
    if asked.verb == "show":
        return _show(asked.json)
    if asked.verb == "exec":
        return _exec(asked.lab, asked.node, asked.argv)
    return _down(asked.lab)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lanrage lab", description="The lab by hand.")
    parser.add_argument("--json", action="store_true", help="facts as JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    up = verbs.add_parser("up", help="build a lab and hold it open until Ctrl-C")
    up.add_argument("file", nargs="?", type=Path, help="a topology as JSON")
    up.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    show = verbs.add_parser("show", help="list the labs that run")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    execute = verbs.add_parser("exec", help="run a command on a node")
    execute.add_argument("--lab", default="", help="which, if more than one runs")
    execute.add_argument("node")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    down = verbs.add_parser("down", help="end the lab of that number, or all that run")
    down.add_argument("lab", nargs="?", default="")
    return parser


def _draw(as_json: bool) -> int:
    usual = topology.two_homes()
    print(msgspec.json.encode(usual).decode() if as_json else topology.draw(usual))
    return 0


def _up(file: Path | None, as_json: bool) -> Refusal | int:
    description = topology.two_homes() if file is None else _read(file)
    if isinstance(description, Refusal):
        return description
    with contextlib.suppress(KeyboardInterrupt), Lab(description) as lab:
        if as_json:
            print(msgspec.json.encode(_shown(lab.id, description)).decode(), flush=True)
        else:
            print(topology.draw(description))
            print(f"\nLab {lab.id}. In another terminal: lanrage lab exec NODE CMD", flush=True)
        while True:
            signal.pause()
    return 0


def _show(as_json: bool) -> int:
    for lab in _running():
        shown = _shown(lab, _description(lab))
        if as_json:
            print(msgspec.json.encode(shown).decode())
            continue
        print(f"lab {lab}\n{topology.draw(shown.topology)}")
        for name, node in shown.nodes.items():
            print(f"  {name:<12} {node['address']:<15} namespace {node['namespace']}")
    return 0


def _exec(lab: str, node: str, argv: list[str]) -> Refusal | int:
    found = [each for each in _running() if not lab or each == lab]
    if len(found) != 1:
        why = f"{len(found)} labs run" if not lab else f"no lab {lab} runs"
        return Refusal("no_lab", "Cannot run this", why, "See `lanrage lab show`; choose by --lab.")
    shown = _shown(found[0], _description(found[0]))
    if node not in shown.nodes:
        names = ", ".join(shown.nodes)
        why = f"the lab has no {node!r}"
        return Refusal("no_node", "Cannot run this", why, f"It has: {names}.")
    words = (argv[1:] if argv[:1] == ["--"] else argv) or [os.environ.get("SHELL", "sh")]
    command = namespaces.exec_argv(shown.nodes[node]["namespace"], words)
    sys.stdout.flush()
    os.execvp(command[0], command)


def _down(only: str) -> int:
    """The owners take their labs down themselves; each is waited for."""
    for lab in [each for each in _running() if not only or each == only]:
        owner = int(lab.partition("-")[0])
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(owner)
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            select.select([handle], [], [], DOWN_S_MAX)
            os.close(handle)
        print(f"ended {lab}")
    for lab in namespaces.sweep():
        print(f"swept {lab}")
    return 0


def _running() -> list[str]:
    return [
        lab
        for lab in namespaces.labs()
        if namespaces.is_alive(lab) and (namespaces.LABS / lab / "topology.json").exists()
    ]


def _description(lab: str) -> Topology:
    text = (namespaces.LABS / lab / "topology.json").read_bytes()
    return msgspec.json.decode(text, type=Topology)


def _shown(lab: str, description: Topology) -> Shown:
    nodes = {
        name: {
            "namespace": namespaces.name_of(lab, name),
            "address": topology.address_of(description, name),
        }
        for name in topology.node_names(description)
    }
    return Shown(lab=lab, nodes=nodes, topology=description)


def _read(file: Path) -> Topology | Refusal:
    try:
        description = msgspec.json.decode(file.read_bytes(), type=Topology)
        why = topology.problem(description)
    except (OSError, msgspec.MsgspecError) as error:
        why = str(error)
    if why is None:
        return description
    fix = "Start from what `lanrage lab --json` prints."
    return Refusal("bad_topology", f"Cannot build the lab of {file}", why, fix)
