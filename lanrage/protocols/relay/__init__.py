"""The relay protocol: how two members exchange datagrams through a forwarder that cannot read them.

wire.py has the formats and the theory, ticket.py who may use a relay, binding.py a member's side,
forwarder.py the relay's. All pure.
"""
