"""The figures of WireGuard (whitepaper sections 5 and 6) and, apart from them, our own limits.

The first part is the protocol: change one and the other side notices. The second part only bounds
what we keep and do. All times are nanoseconds unless the name says otherwise.
"""

from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000

# --- the protocol ---------------------------------------------------------------------------

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# The type is one byte and three reserved zeros, read together as 32 bits, little endian: a reserved
# byte that is not zero makes another (unknown) type.
TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE: Final = 3
TYPE_TRANSPORT: Final = 4

INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_BYTES: Final = 64
TRANSPORT_HEADER_BYTES: Final = 16
TAG_BYTES: Final = 16
TRANSPORT_MIN_BYTES: Final = TRANSPORT_HEADER_BYTES + TAG_BYTES
MAC_BYTES: Final = 16
KEY_BYTES: Final = 32
PADDING_BYTES: Final = 16

REKEY_AFTER_MESSAGES: Final = 2**60
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
REKEY_AFTER: Final = 120 * SECOND
REJECT_AFTER: Final = 180 * SECOND
REKEY_ATTEMPT: Final = 90 * SECOND
REKEY_TIMEOUT: Final = 5 * SECOND
REKEY_JITTER_MAX: Final = 334 * MILLISECOND
KEEPALIVE_AFTER: Final = 10 * SECOND
NO_ANSWER_AFTER: Final = KEEPALIVE_AFTER + REKEY_TIMEOUT
# An initiator that only receives has no packet to notice the 120 s with; it renews here instead,
# early enough that a whole silence and one retry still fit before the session is refused.
REKEY_ON_RECEIVE_AFTER: Final = REJECT_AFTER - KEEPALIVE_AFTER - REKEY_TIMEOUT
ERASE_AFTER: Final = 3 * REJECT_AFTER

COOKIE_LIFE: Final = 120 * SECOND
# The one who holds a cookie stops using it a little before its maker forgets the secret.
COOKIE_LATENCY: Final = 5 * SECOND

WINDOW_BITS: Final = 8192
# Linux and Go keep one 64-bit word of the window free, so this is the largest accepted distance.
WINDOW_DISTANCE_MAX: Final = WINDOW_BITS - 64

INITIATION_SPACING_MIN: Final = 20 * MILLISECOND

# --- our own limits -------------------------------------------------------------------------

KEEPALIVE_MAX_S: Final = 65535  # as `wg`
QUEUED_PACKETS_MAX: Final = 128
OUTGOING_MAX: Final = 4096
NOTICES_MAX: Final = 1024
PEERS_MAX: Final = 4096
ALLOWED_PER_PEER_MAX: Final = 1024
# Two: when initiations cross, a side may still hear the session before the last one.
PREVIOUS_SESSIONS_MAX: Final = 2

# Under load from this many handshake messages with a valid mac1 in one second (about a twentieth
# of one core), and for one second after the last time this was so.
LOAD_HANDSHAKES_PER_SECOND: Final = 100
LOAD_HOLD: Final = SECOND
BUCKET_PER_SECOND: Final = 20
BUCKET_BURST: Final = 5
BUCKETS_MAX: Final = 4096

# A new endpoint asks an unanswered handshake again at once, but no faster than this.
ENDPOINT_RETRY_SPACING: Final = 100 * MILLISECOND
# Having just answered an initiation, its first packet is on the way: do not start another yet.
CONFIRMATION_GRACE: Final = 500 * MILLISECOND

# Why something from outside, or something that had waited, was not taken further.
DROP_REASONS: Final = (
    "bad_cookie",
    "bad_initiation",
    "bad_inner",
    "bad_length",
    "bad_mac1",
    "bad_response",
    "early_initiation",
    "expired",
    "forged",
    "no_cookie",
    "notices_full",
    "outgoing_full",
    "queue_full",
    "rate_limited",
    "replayed",
    "replayed_initiation",
    "spoofed",
    "unanswered",
    "unknown_index",
    "unknown_peer",
    "unknown_type",
)
