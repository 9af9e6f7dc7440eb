"""LANrage: friends form a party with a link, and games find each other as on one LAN."""

__version__ = "0.1.0"
