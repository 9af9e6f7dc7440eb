"""Home routers as nftables rulesets, one a kind, in the terms of RFC 4787.

Linux's masquerade keeps the source port where it can, so its mapping is endpoint-independent, and
conntrack's filtering is address and port-dependent: the common home router, "port-restricted".
Everything else is that with rules added or changed.

Two traps shaped this. A stray packet to the router itself that is *accepted* makes a conntrack
entry that owns the tuple, and the mapping made later gets another port: so `input` drops what is
new. And `masquerade random` alone is what makes a symmetric NAT: with it the kernel does not look
for an existing mapping of the same source.

The remapped kind takes its ports from above Linux's ephemeral range (to 60999), since a port that
already is in the range would be kept.

The cone kinds learn (public port -> computer) from what leaves; with two computers sending from
one port number the later one owns it, so let each use a port of its own.
"""

from __future__ import annotations

from lanrage.lab.topology import Kind

LEARNED_S = 300  # how long a cone mapping outlives its last outgoing packet
SEEN_S = 60  # the same for "has sent to that address" of the address-restricted kind

_BASE = """
table ip lrnat {{
  map cone {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; }}
  chain c_pre {{
    type nat hook prerouting priority dstnat;
    {pre}
  }}
  chain c_post {{
    type nat hook postrouting priority srcnat;
    oifname "wan" {post}
  }}
  chain c_learn {{
    type filter hook forward priority -10;
    {learn}
  }}
}}
table ip lrflt {{
  set seen {{ type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; }}
  chain c_in {{
    type filter hook input priority 0;
    iifname "wan" ct state new drop
  }}
  chain c_fwd {{
    type filter hook forward priority 0;
    {block}
    iifname "wan" ct state established,related accept
    {accept}
    iifname "wan" drop
  }}
}}
"""

_LEARN_CONE = (
    'iifname "lan" oifname "wan" meta l4proto udp '
    f"update @cone {{ udp sport timeout {LEARNED_S}s : ip saddr . udp sport }}"
)
_LEARN_SEEN = (
    'iifname "lan" oifname "wan" meta l4proto udp '
    f"update @seen {{ ip saddr . udp sport . ip daddr timeout {SEEN_S}s }}"
)
_FORWARD_CONE = 'iifname "wan" meta l4proto udp dnat ip to udp dport map @cone'
_ACCEPT_SEEN = 'iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept'
_PLAIN = {"pre": "", "post": "masquerade", "learn": "", "block": "", "accept": ""}

_CHANGES: dict[Kind, dict[str, str]] = {
    "port-restricted": {},
    "remapped": {
        "post": 'meta l4proto udp masquerade to :61000-64999\n    oifname "wan" masquerade'
    },
    "address-restricted": {
        "pre": _FORWARD_CONE,
        "learn": _LEARN_CONE,
        "block": _LEARN_SEEN,
        "accept": _ACCEPT_SEEN,
    },
    "full-cone": {
        "pre": _FORWARD_CONE,
        "learn": _LEARN_CONE,
        "accept": 'iifname "wan" meta l4proto udp accept',
    },
    "symmetric": {"post": "masquerade fully-random"},
    "udp-blocked": {"block": "meta l4proto udp drop"},
    "https-only": {"block": 'meta l4proto udp drop\n    oifname "wan" tcp dport != 443 drop'},
}


def ruleset(kind: Kind) -> str:
    """What `nft -f -` is given in a router whose interfaces are called `wan` and `lan`."""
    return _BASE.format(**(_PLAIN | _CHANGES[kind]))
