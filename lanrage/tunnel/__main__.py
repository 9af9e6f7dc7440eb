"""`python -m lanrage.tunnel FD`: the tunnel process. Only a node starts this, on a socketpair.

SIGINT is ignored: Ctrl-C goes to everybody on the terminal, and the node, which gets it too, says
`Stop` when it is done. SIGTERM ends at once; the interface goes with the process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

# OpenSSL once is enough: `cryptography` brings its own, and the hashes used here (BLAKE2s) are
# Python's. Without this, importing hashlib would load the system's as well, for 4 MB.
sys.modules["_hashlib"] = None  # type: ignore[assignment]


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("usage: python -m lanrage.tunnel FD (started by a node)", file=sys.stderr)
        return 2
    try:
        node = socket.socket(fileno=int(arguments[0]))
        family = node.family
    except OSError:
        family = None
    if family != socket.AF_UNIX:
        print(f"tunnel: descriptor {arguments[0]} is not the node's socket", file=sys.stderr)
        return 2
    from lanrage.tunnel.process import Process

    return Process(node).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
