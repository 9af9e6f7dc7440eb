"""`lanrage doctor`: what stands between this computer and a game, before anybody plays.

Each check ends in one finding: ok, a warning (it works, but not as well as it could) or a failure,
with what was found and what to do. Nothing is changed and nothing is needed: no root, no running
node. `computer` looks at this machine, `network` asks the router and servers, `party` compares what
to expect of each pair of members with what they use; `run` does it in order and prints it.
"""
