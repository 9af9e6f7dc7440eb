"""WireGuard as a sans-IO core: bytes and times in, bytes and notices out.

`engine` is the door. Nothing in here reads a clock, draws randomness by itself or opens a socket.
"""
