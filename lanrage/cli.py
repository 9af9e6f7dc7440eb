"""The command line: every command of a player or host, as a table of arguments and functions.

Exit status 0 done, 1 refused or failed (one line on stderr: what, why, what to do), 2 wrong usage.
Modules are imported where they are used: `lanrage join` must not wait for a web framework.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from lanrage import __version__
from lanrage.refusal import Refusal, plain

if TYPE_CHECKING:
    from events.base import Stored
    from events.log import Reader
    from events.store import Session
    from lanrage.api_client import Api

T = TypeVar("T")
Outcome = Refusal | int | None
READ_ROWS = 1_000
PUBLIC = "with a code: this network's address on the Internet, if nothing tells it"


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that this locale cannot write
    args = parser().parse_args(arguments)
    try:
        outcome: Outcome = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Of writing, most likely. What is left unwritten would make the interpreter complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # `lanrage events | head` is no failure
        outcome = Refusal("io", "Not done", f"{error.strerror or error}", "Check disk and files.")
    if isinstance(outcome, Refusal):
        print(plain(str(outcome)), file=sys.stderr)
        return 1
    return outcome or 0


# --- the table ----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lanrage", description="Play LAN games over the internet: one party, one LAN."
    )
    top.add_argument("--version", action="version", version=f"lanrage {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], Outcome], text: str) -> Any:
        each = commands.add_parser(name, help=text, description=text)
        each.add_argument("--state", metavar="DIR", help="state directory (or LANRAGE_STATE)")
        each.add_argument("--json", action="store_true", help="print JSON")
        each.set_defaults(run=run)
        return each

    _add_node(add)
    _add_party(add)
    _add_log(add)
    _add_servers(add)
    return top


def _add_node(add: Callable[..., Any]) -> None:
    up = add("up", _up, "run this computer's node until Ctrl-C")
    up.add_argument("--name", help="what friends see; by default this computer's name")
    up.add_argument("--control", default="", metavar="URL", help="use this control server")
    up.add_argument(
        "--control-listen",
        default="[::]:8667",
        metavar="HOST:PORT",
        type=_host_port,
        help="where the embedded control listens (default %(default)s)",
    )
    up.add_argument(
        "--advertise",
        action="append",
        default=[],
        metavar="HOST:PORT",
        type=_host_port,
        help="also name this address in invites: where your router forwards to the control",
    )
    up.add_argument(
        "--listen", type=_port, default=26666, metavar="PORT", help="UDP port of the tunnel"
    )
    up.add_argument(
        "--api", default="127.0.0.1:8666", metavar="HOST:PORT", type=_host_port, help="dashboard"
    )
    up.add_argument("--interface", default="lanrage0", type=_interface)
    up.add_argument(
        "--no-port-mapping",
        dest="port_mapping",
        action="store_false",
        help="do not ask the router to open ports (PCP, NAT-PMP, UPnP)",
    )
    up.add_argument(
        "--no-volunteer",
        dest="volunteer",
        action="store_false",
        help="do not pass on (still encrypted) packets of members that cannot reach each other",
    )
    up.add_argument(
        "--port-search",
        action="store_true",
        help="consent to trying up to 2,048 ports of a friend's router, where nothing else works",
    )
    up.add_argument("--tunnel", choices=("auto", "userspace", "kernel"), default="auto")
    add("status", _status, "who is in the party and how each is reached")
    doctor = add("doctor", _doctor, "what stands between this computer and a game")
    doctor.add_argument("--control", default="", metavar="URL", help="also try this control server")
    doctor.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        type=_host_port,
        help="ask this STUN server what the router does",
    )


def _add_party(add: Callable[..., Any]) -> None:
    create = add("create", _create, "make a party and print an invite")
    create.add_argument("name")
    create.add_argument(
        "--uses", type=_count, default=1, help="how many friends the invite lets in"
    )
    invite = add("invite", _invite, "print another invite, or revoke one: invite revoke ID")
    invite.add_argument("action", nargs="?", choices=("revoke",))
    invite.add_argument("id", nargs="?", metavar="ID")
    invite.add_argument("--uses", type=_count, default=1)
    invite.add_argument("--expires", type=_duration, default=86_400, metavar="1h")
    join = add("join", _join, "enter a party with a friend's invite, or with an offer's code")
    join.add_argument("link", metavar="LINK|CODE")
    join.add_argument("--public", default="", metavar="ADDRESS", help=PUBLIC)
    offer = add("offer", _offer, "a code to let a friend in where no server can be reached")
    offer.add_argument("--public", default="", metavar="ADDRESS", help=PUBLIC)
    offer.add_argument("--expires", type=_duration, default=1200, metavar="20m")
    answer = add("answer", _join, "answer an offer's code (as join)")
    answer.add_argument("link", metavar="CODE")
    answer.add_argument("--public", default="", metavar="ADDRESS", help=PUBLIC)
    accept = add("accept", _accept, "let the friend in who sent this answer to your offer")
    accept.add_argument("code")
    add("leave", _leave, "leave the party")
    kick = add("kick", _kick, "put a member out (only who made the party)")
    kick.add_argument("peer", help="name or id")
    rename = add("rename", _rename, "change your name in the party")
    rename.add_argument("name")
    profiles = add("profiles", _profiles, "list, show, check or use game profiles")
    profiles.add_argument(
        "action", nargs="?", choices=("list", "show", "check", "use"), default="list"
    )
    profiles.add_argument("target", nargs="?", metavar="ID|FILE")


def _add_log(add: Callable[..., Any]) -> None:
    events = add("events", _events, "what happened, one event a line")
    events.add_argument("--after", type=int, default=0, metavar="SEQ", help="-N: only the newest N")
    events.add_argument("--type", metavar="GLOB", help="such as 'path.*'")
    events.add_argument("--follow", action="store_true", help="go on as things happen")
    replay = add("replay", _replay, "fold a log again and print the state as JSON")
    replay.add_argument("source", metavar="FILE|STATE")
    replay.add_argument("--session", metavar="ID")
    replay.add_argument("--until", type=int, metavar="SEQ")
    replay.add_argument("--serve", action="store_true", help="open the dashboard on it, read-only")
    replay.add_argument("--api", default="127.0.0.1:0", metavar="HOST:PORT", type=_host_port)
    export = add("export", _export, "write events to a file")
    export.add_argument("--session", metavar="ID")
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    export.add_argument("-o", "--output", required=True, metavar="FILE")
    add("sessions", _sessions, "the runs that the log holds")


def _add_servers(add: Callable[..., Any]) -> None:
    control = add("control", _control, "run the rendezvous server alone")
    control.add_argument("--listen", default="[::]:8667", metavar="HOST:PORT", type=_host_port)
    control.add_argument("--relay-secret", type=Path, metavar="FILE", help="what relays must prove")
    control.add_argument(
        "--tls", action="store_true", help="serve wss:// only; a certificate is made and pinned"
    )
    control.add_argument("--cert", type=Path, help="serve wss:// by this certificate (PEM)")
    control.add_argument("--key", type=Path, help="its private key (PEM)")
    relay = add("relay", _relay, "forward what members cannot send each other directly")
    relay.add_argument(
        "--listen",
        default="0.0.0.0:3478",
        metavar="HOST:PORT",
        type=_host_port,
        help="UDP (default %(default)s); the next port answers STUN, too",
    )
    relay.add_argument(
        "--tcp",
        metavar="HOST:PORT",
        type=_host_port,
        help="also WebSocket over TLS, for networks without UDP; 443 gets through best",
    )
    relay.add_argument("--cert", type=Path, help="certificate (PEM); else one is made and pinned")
    relay.add_argument("--key", type=Path, help="its private key (PEM)")
    relay.add_argument("--region", default="", help="where it is, for people: eu, us-east, ...")
    relay.add_argument("--control", default="", metavar="URL", help="the control to register with")
    relay.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        type=_host_port,
        help="where members reach it",
    )
    relay.add_argument(
        "--alternate", default="", metavar="IP", help="a second address of this server, for STUN"
    )
    relay.add_argument(
        "--member-mbits",
        type=_count,
        default=100,
        metavar="N",
        help="what each member may send through it (default %(default)s Mbit/s)",
    )
    relay.add_argument(
        "--secret", type=Path, help="the file shared with control (default: in the state directory)"
    )
    tunnel = add("tunnel", _tunnel, "run the WireGuard engine alone, from a wg-quick file")
    tunnel.add_argument("config", type=Path)
    tunnel.add_argument("--interface", type=_interface)
    demo = add(
        "demo", _demo, "four players behind real routers, one through a relay, on this machine"
    )
    demo.add_argument("--no-browser", action="store_true")
    lab = add("lab", _lab, "network namespaces as homes, routers and a slow wire")
    lab.add_argument("words", nargs=argparse.REMAINDER, metavar="...")
    completion = add("completion", _completion, "print a shell's tab completion")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _host_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _interface(text: str) -> str:
    if not 1 <= len(text) <= 15 or not all(each.isalnum() or each in "_.-" for each in text):
        raise argparse.ArgumentTypeError(f"{text!r} is no interface name (1 to 15 letters)")
    return text


def _duration(text: str) -> int:
    """Seconds from `90s`, `15m`, `1h`, `7d`."""
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal() or int(number) * units[unit] < 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 15m, 1h or 7d")
    return int(number) * units[unit]


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


# --- the node -----------------------------------------------------------------------------------


def _state(args: argparse.Namespace) -> Path:
    from lanrage.state_dir import locate

    return locate(args.state)


def _end_by_ctrl_c() -> None:
    """At once and in silence, until the program that is being imported takes it over: some of what
    it imports turns a KeyboardInterrupt into an error of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _up(args: argparse.Namespace) -> Outcome:
    _end_by_ctrl_c()
    from lanrage.up import Settings, up

    settings = Settings(
        state=_state(args),
        name=args.name,
        control=args.control,
        control_listen=args.control_listen,
        advertise=tuple(args.advertise),
        port=args.listen,
        api=args.api,
        interface=args.interface,
        volunteer=args.volunteer,
        port_search=args.port_search,
        port_mapping=args.port_mapping,
        backend=args.tunnel,
        json=args.json,
    )
    return _run(up(settings))


def _ask(args: argparse.Namespace, method: str, path: str, body: Any = None) -> Any | Refusal:
    from lanrage.api_client import connect

    api = connect(_state(args))
    return api if isinstance(api, Refusal) else api.call(method, path, body)


def _answer(
    args: argparse.Namespace, document: Any | Refusal, words: Callable[[Any], str]
) -> Outcome:
    """Print the document as JSON or in words."""
    if isinstance(document, Refusal):
        return document
    print(_json(document) if args.json else words(document))
    return None


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def _status(args: argparse.Namespace) -> Outcome:
    return _answer(args, _ask(args, "GET", "/api/status"), _status_words)


def _status_words(status: dict[str, Any]) -> str:
    from projections.history import counted

    node, party = status["node"], status["party"]
    lines = [f"{node['name']}  {node['address'] or 'in no party'}  ({node['nat']['words']})"]
    if party is None:
        return "\n".join([*lines, "Next: `lanrage create NAME` or `lanrage join LINK`."])
    control = party["control_connected"] or f"out of reach: {party['control_reason']}"
    members = counted(len(status["peers"]) + 1, "member")
    lines.append(f"Party {party['name']}, {members}, control {control}")
    if party["warning"]:
        lines.append(f"Warning: control showed another history: {party['warning']}")
    for peer in status["peers"]:
        path = peer["path"]
        figures = f"{path['kind']} {path['rtt_ms']:.1f} ms" if path else "-"
        lines.append(
            f"  {peer['name']:<16} {peer['address']:<14} {peer['state']:<11}"
            f" {figures:<18} {peer['why']}"
        )
    if not status["peers"]:
        lines.append("Nobody else yet. Send a friend a link: `lanrage invite`.")
    return "\n".join(plain(line) for line in lines)


def _doctor(args: argparse.Namespace) -> Outcome:
    from lanrage.doctor.run import run

    return run(_state(args), control=args.control, servers=args.server, json=args.json)


# --- the party ----------------------------------------------------------------------------------


def _create(args: argparse.Namespace) -> Outcome:
    made = _ask(args, "POST", "/api/create", {"name": args.name, "uses": args.uses})
    return _answer(
        args,
        made,
        lambda it: f"Party {it['name']} is open. Send this to {_friends(it)}:\n\n{it['invite']}\n",
    )


def _friends(made: dict[str, Any]) -> str:
    return "a friend" if made["uses"] == 1 else f"up to {made['uses']} friends"


def _invite(args: argparse.Namespace) -> Outcome:
    if args.action == "revoke":
        if not args.id:
            print("usage: lanrage invite revoke ID", file=sys.stderr)
            return 2
        revoked = _ask(args, "POST", "/api/invite/revoke", {"invite": args.id})
        return _answer(args, revoked, lambda it: f"Revoked {it['revoked'][:8]}.")
    made = _ask(args, "POST", "/api/invite", {"uses": args.uses, "expires_s": args.expires})
    return _answer(args, made, _invite_words)


def _invite_words(made: dict[str, Any]) -> str:
    revoke = f"To take it back: `lanrage invite revoke {made['id'][:8]}`."
    return f"For {_friends(made)}:\n\n{made['invite']}\n\n{revoke}"


def _join(args: argparse.Namespace) -> Outcome:
    asked = {"link": args.link, "public": args.public}
    return _answer(args, _ask(args, "POST", "/api/join", asked), _joined_words)


def _joined_words(it: dict[str, Any]) -> str:
    if "answer" in it:
        return f"Send this back at once; you are in when it is accepted:\n\n{it['answer']}\n"
    return f"In {it['name']} as {it['address']}. `lanrage status` shows the others."


def _offer(args: argparse.Namespace) -> Outcome:
    asked = {"public": args.public, "expires_s": args.expires}
    return _answer(
        args,
        _ask(args, "POST", "/api/offer", asked),
        lambda it: (
            f"Send this to one friend, who runs `lanrage join CODE`:\n\n{it['code']}\n\n"
            "Then paste the answer: `lanrage accept ANSWER`."
        ),
    )


def _accept(args: argparse.Namespace) -> Outcome:
    accepted = _ask(args, "POST", "/api/accept", {"code": args.code})
    return _answer(
        args, accepted, lambda _it: "Connecting. `lanrage status` shows when your friend is in."
    )


def _leave(args: argparse.Namespace) -> Outcome:
    left = _ask(args, "POST", "/api/leave", {})
    return _answer(
        args,
        left,
        lambda it: (
            "Left the party."
            if it["told"]
            else "Left the party; control could not be told, so others may still list you."
        ),
    )


def _kick(args: argparse.Namespace) -> Outcome:
    kicked = _ask(args, "POST", "/api/kick", {"peer": args.peer})
    return _answer(args, kicked, lambda it: f"{it['name']} is out.")


def _rename(args: argparse.Namespace) -> Outcome:
    renamed = _ask(args, "POST", "/api/rename", {"name": args.name})
    return _answer(args, renamed, lambda it: f"You are {it['name']} now.")


def _profiles(args: argparse.Namespace) -> Outcome:
    from lanrage.state_dir import PROFILES
    from profiles import catalog

    if args.action != "list" and not args.target:
        print(f"usage: lanrage profiles {args.action} ID|FILE", file=sys.stderr)
        return 2
    if args.action == "use":
        used = _ask(args, "POST", "/api/profile", {"profile": args.target})
        return _answer(args, used, lambda it: f"Using {it['profile']} (MTU {it['mtu']}).")
    if args.action == "check":
        problems = catalog.check(Path(args.target))
        words = "\n".join(map(plain, problems)) or "Nothing is wrong with it."
        print(_json(problems) if args.json else words)
        return 1 if problems else 0
    found = catalog.load(_state(args) / PROFILES)
    for problem in found.problems:
        print(plain(problem), file=sys.stderr)
    if args.action == "list":
        rows = [{"id": each.id, "name": each.name} for each in found.all()]
        lines = (plain(f"{each['id']:<18} {each['name']}") for each in rows)
        print(_json(rows) if args.json else "\n".join(lines))
        return None
    one = found.get(args.target)
    if one is None:
        why = f"there is none called {args.target!r}"
        return Refusal("no_profile", "Cannot show it", why, "See `lanrage profiles list`.")
    print(msgspec.json.format(msgspec.json.encode(one)).decode())
    return None


# --- the log ------------------------------------------------------------------------------------


def _events(args: argparse.Namespace) -> Outcome:
    from lanrage.api_client import connect

    api = connect(_state(args))
    show = _shower(args.json, _known_names(args))
    if isinstance(api, Refusal):
        return api if args.follow else _stored_events(args, show)
    return _follow(args, api, show) if args.follow else _stored_events(args, show)


def _follow(
    args: argparse.Namespace, api: Api, show: Callable[[Iterable[Stored]], None]
) -> Outcome:
    from events.base import Stored

    query = {"after": args.after} | ({"type": args.type} if args.type else {})
    following = api.follow(f"/api/events/stream?{urlencode(query, errors='replace')}")
    if isinstance(following, Refusal):
        return following
    for data in following:
        show([msgspec.json.decode(data, type=Stored)])
    return None


def _stored_events(args: argparse.Namespace, show: Callable[[Iterable[Stored]], None]) -> Outcome:
    from lanrage.state_dir import EVENTS

    async def read(log: Reader) -> None:
        after = args.after if args.after >= 0 else max(0, log.head + args.after)
        while rows := await log.read(after, limit=READ_ROWS, type_glob=args.type):
            show(rows)
            after = rows[-1].seq

    return _run(_with_log(_state(args) / EVENTS, read))


async def _with_log(source: Path, work: Callable[[Reader], Coroutine[Any, Any, T]]) -> T | Refusal:
    from events.log import open_readonly

    log = await open_readonly(source)
    if isinstance(log, Refusal):
        return log
    try:
        return await work(log)
    finally:
        await log.close()


def _known_names(args: argparse.Namespace) -> dict[str, str]:
    """Who is who, from the whole log: a filter leaves out the events that say so."""
    from events.codec import decode
    from projections.history import remember

    names: dict[str, str] = {}
    filtered = args.type or args.after
    rows = [] if args.json or not filtered else _read_all(_state(args))
    for row in [] if isinstance(rows, Refusal) else rows:
        remember(names, decode(row))
    return names


def _shower(as_json: bool, names: dict[str, str]) -> Callable[[Iterable[Stored]], None]:
    from events.codec import decode
    from events.export import line_of
    from projections.history import describe, remember

    def show(rows: Iterable[Stored]) -> None:
        for row in rows:
            if as_json:
                sys.stdout.write(line_of(row).decode().rstrip("\n") + "\n")
                continue
            event = decode(row)
            remember(names, event)
            at = datetime.fromtimestamp(row.at / 1000).strftime("%H:%M:%S.%f")[:-3]
            print(plain(f"{row.seq:>5} {at} {row.type:<24} {describe(event, names)}"))
        sys.stdout.flush()

    return show


def _replay(args: argparse.Namespace) -> Outcome:
    from projections import mesh

    rows = _source(Path(args.source), args.session, args.until)
    if isinstance(rows, Refusal):
        return rows
    if args.serve:
        from lanrage.replayed import show

        host, _, port = args.api.rpartition(":")
        return _run(show(rows, host.strip("[]"), int(port)))
    sys.stdout.buffer.write(mesh.canonical(mesh.fold_all(mesh.EMPTY, rows)) + b"\n")
    return None


def _source(source: Path, session: str | None, until: int | None) -> list[Stored] | Refusal:
    """The events to fold: all up to the end of the session, if one is named."""
    rows = _read_all(source)
    if isinstance(rows, Refusal):
        return rows
    last = until if until is not None else sys.maxsize
    if session is not None:
        of_session = [row.seq for row in rows if row.session == session]
        if not of_session:
            return _no_session(session)
        last = min(last, of_session[-1])
    return [row for row in rows if row.seq <= last]


def _read_all(source: Path) -> list[Stored] | Refusal:
    """Every event of a state directory, of a log, or of an exported file."""
    from events.export import read_jsonl
    from lanrage.state_dir import EVENTS

    if source.is_dir():
        return _run(_with_log(source / EVENTS, _all_of))
    if source.suffix == ".sqlite":
        return _run(_with_log(source, _all_of))
    return read_jsonl(source)


async def _all_of(log: Reader) -> list[Stored]:
    rows: list[Stored] = []
    while more := await log.read(rows[-1].seq if rows else 0, limit=READ_ROWS):
        rows.extend(more)
    return rows


def _export(args: argparse.Namespace) -> Outcome:
    from events.export import export_csv, export_jsonl

    rows = _read_all(_state(args))
    if isinstance(rows, Refusal):
        return rows
    if args.session is not None:
        rows = _of_session(rows, args.session)
        if isinstance(rows, Refusal):
            return rows
    data = export_jsonl(rows) if args.format == "jsonl" else export_csv(rows)
    try:
        Path(args.output).write_bytes(data)
    except OSError as error:
        why = f"{args.output}: {error.strerror}"
        return Refusal("export_failed", "Cannot export", why, "Choose another file with -o.")
    words = f"Wrote {len(rows)} events to {args.output}."
    print(_json({"events": len(rows), "file": args.output}) if args.json else words)
    return None


def _of_session(rows: list[Stored], session: str) -> list[Stored] | Refusal:
    """One session, headed by the state it began with, so that it replays alone."""
    from projections.mesh import carried

    mine = [row for row in rows if row.session == session]
    if not mine:
        return _no_session(session)
    before = [row for row in rows if row.seq < mine[0].seq]
    return [*carried(before, mine[0]), *mine]


def _no_session(session: str) -> Refusal:
    return Refusal(
        "no_session",
        "Cannot do that",
        f"the log has no session {session!r}",
        "See `lanrage sessions`.",
    )


def _sessions(args: argparse.Namespace) -> Outcome:
    from lanrage.state_dir import EVENTS

    found = _run(_with_log(_state(args) / EVENTS, lambda log: log.sessions()))
    return _answer(args, found, lambda them: "\n".join(map(_session_words, them)))


def _session_words(session: Session) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.began_at / 1000))
    return f"{session.id:<26} {began}  events {session.first} to {session.last}"


# --- servers, lab -------------------------------------------------------------------------------


def _control(args: argparse.Namespace) -> Outcome:
    _end_by_ctrl_c()
    from lanrage.control.run import run

    return _run(
        run(
            args.listen,
            _state(args),
            json=args.json,
            relay_secret=args.relay_secret,
            tls=args.tls,
            cert=args.cert,
            key=args.key,
        )
    )


def _relay(args: argparse.Namespace) -> Outcome:
    _end_by_ctrl_c()
    from lanrage.relay.run import Settings, run

    settings = Settings(
        listen=args.listen,
        tcp=args.tcp or "",
        cert=args.cert,
        key=args.key,
        region=args.region,
        control=args.control,
        advertise=args.advertise or "",
        alternate=args.alternate,
        member_mbits=args.member_mbits,
        secret=args.secret,
        state=_state(args),
        json=args.json,
    )
    return _run(run(settings))


def _tunnel(args: argparse.Namespace) -> Outcome:
    from lanrage.tunnel.standalone import run

    return run(args.config, args.interface)


def _demo(args: argparse.Namespace) -> Outcome:
    from lanrage.lab.demo import run

    return run(browser=not args.no_browser, json=args.json)


def _lab(args: argparse.Namespace) -> Outcome:
    from lanrage.lab.command import run

    return run(["--json", *args.words] if args.json else args.words)


def _completion(args: argparse.Namespace) -> Outcome:
    import shtab

    print(shtab.complete(parser(), shell=args.shell))
    return None
