"""TLS as bytes in and bytes out; whoever owns the socket moves them.

Sealed in memory and not by a socket, so what was sealed but not yet sent is known to the byte, and
a carrier can wait with the next datagram until the network has taken the last.
"""

from __future__ import annotations

import ssl

from lanrage.certificate import WrongPin

PIECE_BYTES = 65_536


class Tls:
    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, host: str | None = None
    ) -> None:
        """`host` as the certificate must name it, if the context asks for that."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=host
        )
        self.ready = False  # the other end is who it should be
        self.failure = ""  # why nothing more will come

    def begin(self) -> None:
        """The client's first words."""
        self._shake()

    def receive(self, data: bytes) -> bytes:
        """What the network brought; gives what the other end wrote. Look at `ready`, `failure` and
        `outgoing` afterwards."""
        self._incoming.write(data)
        if not self.ready:
            self._shake()
        pieces = []
        while self.ready and not self.failure:
            try:
                piece = self._object.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._fail(error)
                break
            if not piece:
                self.failure = "it hung up"
                break
            pieces.append(piece)
        return b"".join(pieces)

    def send(self, plain: bytes) -> None:
        """Only when `ready`."""
        try:
            self._object.write(plain)
        except ssl.SSLError as error:
            self._fail(error)

    def outgoing(self) -> bytes:
        """What the network is to take, once."""
        return self._outgoing.read()

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self.ready = True

    def _fail(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLZeroReturnError):
            self.failure = "it hung up"
        elif isinstance(error, WrongPin):
            self.failure = "its certificate is not the one that we were told"
        elif isinstance(error, ssl.SSLCertVerificationError):
            self.failure = f"its certificate is not trusted: {error.verify_message}"
        else:
            name = (error.reason or "unknown").lower().replace("_", " ")
            self.failure = f"no TLS connection: {name}"
