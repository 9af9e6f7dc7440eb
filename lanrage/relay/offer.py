"""What a relay tells control about itself: who it is since its last start, and how busy it is.

The key, the boot id and the ticket key are fresh after each start: a relay keeps nothing, so
nothing that it kept can be stolen. Whoever has the ticket key may issue tickets, so it goes to
control alone, over the connection that the relay opened.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from lanrage.protocols.relay.wire import BOOT_BYTES

KEY_BYTES = 32


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a relay. Never printed: `ticket_key` is a secret."""

    addresses: tuple[str, ...]  # "ip:port" over UDP that the operator named; empty: unknown
    host: str = ""  # a name that the operator advertises instead of an address
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    region: str = ""
    tcp: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0  # the TCP front's port; 0: it has none
    pin: str = ""  # SHA-256 of its certificate (DER), hex; empty: any authority's certificate
    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    boot: Annotated[bytes, msgspec.Meta(min_length=BOOT_BYTES, max_length=BOOT_BYTES)]
    ticket_key: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]

    def __repr__(self) -> str:
        return f"Offer({self.addresses}, port={self.port}, boot={self.boot.hex()})"


class Load(msgspec.Struct, frozen=True):
    """How busy the relay is. `bytes_per_s` counts what it forwarded."""

    members: int = 0
    bytes_per_s: int = 0
