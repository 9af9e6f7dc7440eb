"""A port of this computer's loopback that leads to the same port inside a namespace.

The dashboard of a node in the lab listens on that namespace's 127.0.0.1, where no browser of the
host can go, and its guard takes only requests addressed to exactly that host and port. So the
number is chosen here, on the host, before the node starts, and connections are carried over byte
by byte, each by a socket made inside.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from lanrage.lab.lab import Computer

CHUNK_BYTES = 65_536
CONNECTIONS_MAX = 64


class Doorway:
    """Reserves a free port at once; carries connections between `open_to` and `close`."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._places = threading.Semaphore(CONNECTIONS_MAX)
        self._threads: list[threading.Thread] = []
        self._carried: set[socket.socket] = set()

    def open_to(self, computer: Computer) -> None:
        self._listener.listen()
        self._start(self._accept, computer)

    def close(self) -> None:
        """End what is being carried, too."""
        with contextlib.suppress(OSError):  # it never listened
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in list(self._carried):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    def _accept(self, computer: Computer) -> None:
        while True:
            self._places.acquire()
            try:
                outer, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._threads = [each for each in self._threads if each.is_alive()]
            self._start(self._carry, computer, outer)

    def _carry(self, computer: Computer, outer: socket.socket) -> None:
        inner = computer.socket(socket.SOCK_STREAM)
        self._carried |= {outer, inner}
        with outer, inner, contextlib.suppress(OSError):
            inner.connect(("127.0.0.1", self.port))
            back = threading.Thread(target=_pump, args=(inner, outer), daemon=True)
            back.start()
            _pump(outer, inner)
            back.join()
        self._carried -= {outer, inner}
        self._places.release()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Until `source` ends; then `sink` is told so."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
