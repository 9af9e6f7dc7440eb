"""A notice of the tunnel process, in the words of the rules."""

from __future__ import annotations

from lanrage import commands as c
from lanrage.tunnel import messages as m


def reported(notice: m.AnyNotice) -> c.Reported | None:
    """The command that says it; None for what is no transition."""
    match notice:
        case m.Started(interface=interface, port=port):
            return c.NoteTunnel(interface=interface, port=port, backend="userspace")
        case m.Failed(refusal=refusal):
            return c.NoteTunnelStopped(reason=str(refusal))
        case m.Configured(address=address, address6=address6, mtu=mtu):
            return c.NoteConfigured(address=address, address6=address6, mtu=mtu)
        case m.Mapped(server=server, address=address, rtt_us=rtt_us):
            return c.NoteMapping(server=server, mapped=address, rtt_ms=rtt_us // 1000)
        case m.Unmapped(server=server, reason=reason):
            return c.NoteMapping(server=server, reason=reason)
        case m.Probing(peer=who, addresses=tried):
            return c.NoteProbing(peer=who, addresses=tried)
        case m.Opened(peer=who, path=path, took_ms=took_ms):
            return c.NotePath(peer=who, new=path, took_ms=took_ms)
        case m.Switched(peer=who, old=old, new=new, reason=reason):
            return c.NotePath(peer=who, old=old, new=new, reason=reason)
        case m.Lost(peer=who, old=old, reason=reason):
            return c.NotePath(peer=who, old=old, reason=reason)
        case m.Doubted(peer=who, path=path, second=second, silent_ms=ms):
            return c.NoteDoubt(peer=who, path=path, second=second, ms=ms)
        case m.Trusted(peer=who, path=path, after_ms=ms):
            return c.NoteDoubt(peer=who, path=path, ms=ms, trusted=True)
        case m.RelayBound(
            relay=relay, carrier=carrier, address=address, rtt_us=rtt_us, took_ms=took_ms
        ):
            return c.NoteRelayBound(
                relay=relay, carrier=carrier, address=address, rtt_us=rtt_us, took_ms=took_ms
            )
        case m.RelayUnbound(relay=relay, carrier=carrier, reason=reason):
            return c.NoteRelayBound(relay=relay, carrier=carrier, reason=reason)
        case m.Unreachable(peer=who, tried=tried, after_ms=after_ms, reason=reason):
            return c.NoteUnreachable(peer=who, tried=tried, after_ms=after_ms, reason=reason)
        case m.Established(peer=who, took_ms=took_ms):
            return c.NoteSession(peer=who, established=True, took_ms=took_ms)
        case m.Expired(peer=who, reason=reason):
            return c.NoteSession(peer=who, established=False, reason=reason)
        case m.Counters() | m.RelayMeasured():
            return None
