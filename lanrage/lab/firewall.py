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

The cone kinds and those that hairpin learn (public port -> computer) from what leaves. Linux gives
one public port to two computers as long as they talk to different destinations, which no cone does:
so a port belongs to the first computer that had it, and others get one above the ephemeral range.

A hairpin is RFC 4787 REQ-9: what comes from inside to the public address goes back in, and its
source is the public mapped one. What nobody owns is dropped, or conntrack would keep it as a flow
to the router itself when the port has an owner later.

IPv6 is not translated; the router lets in what was asked for and nothing else.
"""

from __future__ import annotations

from lanrage.lab.topology import Kind, Router

LEARNED_S = 300  # how long a cone mapping outlives its last outgoing packet
SEEN_S = 60  # the same for "has sent to that address" of the address-restricted kind

_BASE = """
table ip lrnat
delete table ip lrnat
table ip lrflt
delete table ip lrflt
table ip6 lrflt6
delete table ip6 lrflt6
table ip lrnat {{
  map cone {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; }}
  set taken {{ type inet_service; flags dynamic,timeout; }}
  set owners {{ type inet_service . ipv4_addr; flags dynamic,timeout; }}
  chain c_pre {{
    type nat hook prerouting priority dstnat;
    {pre}
    {hairpin_pre}
  }}
  chain c_post {{
    type nat hook postrouting priority srcnat;
    {hairpin_post}
    {post}
    oifname "wan" masquerade
  }}
  chain c_learn {{
    type filter hook postrouting priority srcnat + 10;
    {learn}
  }}
}}
table ip lrflt {{
  set seen {{ type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; }}
  set gone {{ type ipv4_addr; }}
  chain c_in {{
    type filter hook input priority 0;
    iifname "wan" ct state new drop
    {hairpin_in}
  }}
  chain c_gone {{
    type filter hook forward priority -20;
    meta l4proto udp ip saddr @gone drop
    meta l4proto udp ip daddr @gone drop
  }}
  chain c_fwd {{
    type filter hook forward priority 0;
    {block}
    {seen}
    iifname "wan" ct state established,related accept
    {accept}
    iifname "wan" drop
  }}
}}
table ip6 lrflt6 {{
  set gone {{ type ipv6_addr; flags interval; }}
  chain c_fwd {{
    type filter hook forward priority 0;
    meta l4proto udp ip6 saddr @gone drop
    meta l4proto udp ip6 daddr @gone drop
    {block}
    iifname "wan" ct state established,related accept
    iifname "wan" drop
  }}
}}
"""

_PLAIN = {
    "pre": "",
    "post": "",
    "learn": "",
    "block": "",
    "seen": "",
    "accept": "",
    "hairpin_pre": "",
    "hairpin_post": "",
    "hairpin_in": "",
}
_OWNERS = {
    "learn": f"""oifname "wan" meta l4proto udp update @taken {{ udp sport timeout {LEARNED_S}s }}
    oifname "wan" meta l4proto udp \\
      update @owners {{ udp sport . ct original ip saddr timeout {LEARNED_S}s }}
    oifname "wan" meta l4proto udp update @cone \\
      {{ udp sport timeout {LEARNED_S}s : ct original ip saddr . ct original proto-src }}""",
    "post": """oifname "wan" meta l4proto udp udp sport . ip saddr @owners masquerade
    oifname "wan" meta l4proto udp udp sport @taken masquerade to :61000-64999""",
}
_REMAPPED = {"post": 'oifname "wan" meta l4proto udp masquerade to :61000-64999'}
_LEARN_SEEN = (
    'iifname "lan" oifname "wan" meta l4proto udp '
    f"update @seen {{ ip saddr . udp sport . ip daddr timeout {SEEN_S}s }}"
)
_FORWARD_CONE = 'iifname "wan" meta l4proto udp dnat ip to udp dport map @cone'
_ACCEPT_SEEN = 'iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept'

_CHANGES: dict[Kind, dict[str, str]] = {
    "port-restricted": {},
    "remapped": _REMAPPED,
    "address-restricted": {
        **_OWNERS,
        "pre": _FORWARD_CONE,
        "seen": _LEARN_SEEN,
        "accept": _ACCEPT_SEEN,
    },
    "full-cone": {
        **_OWNERS,
        "pre": _FORWARD_CONE,
        "accept": 'iifname "wan" meta l4proto udp accept',
    },
    "symmetric": {"post": 'oifname "wan" masquerade fully-random'},
    "udp-blocked": {"block": "meta l4proto udp drop"},
    "https-only": {"block": 'meta l4proto udp drop\n    oifname "wan" tcp dport != 443 drop'},
}


def ruleset(router: Router, public: str) -> str:
    """What `nft -f -` is given in a router whose interfaces are called `wan` and `lan`, and whose
    address on `wan` is `public`. Replaces what was there."""
    changes = _PLAIN | _CHANGES[router.kind]
    if router.hairpin:
        changes = changes | _hairpin(router.kind, public)
    return _BASE.format(**changes)


def _hairpin(kind: Kind, public: str) -> dict[str, str]:
    back = f'iifname "lan" ip daddr {public} meta l4proto udp'
    return {
        "learn": _OWNERS["learn"],
        "post": (_REMAPPED if kind == "remapped" else _OWNERS)["post"],
        "hairpin_pre": f"{back} meta mark set 1 dnat ip to udp dport map @cone",
        "hairpin_post": f'oifname "lan" meta mark 1 snat to {public}',
        "hairpin_in": f"{back} drop",
    }
