"""What happens in one simulated evening, drawn from a seed: who plays, and what breaks when.

python -m tests.sim 10000        that many seeds, on all cores
python -m tests.sim seed 4711    one of them, told in words
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.sim.network import KINDS, MS, StunServer
from tests.sim.reference import Model, Watch
from tests.sim.world import PACE_NS, Player, World

S = 1000 * MS
TROUBLE_S = (6.0, 24.0)  # things break between these
END_S = 40.0
LOOK_NS = 250 * MS


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    failures: tuple[str, ...]
    story: tuple[str, ...] = field(compare=False)
    gap_ms: int  # the longest that a stream stood still while a way was there

    def __str__(self) -> str:
        return "\n  ".join((f"seed {self.seed}:", *self.story, *self.failures))


class Evening:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.story: list[str] = []
        draw = self.draw = random.Random(seed)
        self.world = World(
            seed,
            delay_ms=draw.choice((5, 20, 60)),
            jitter_ms=draw.choice((0, 2, 20)),
            loss=draw.choice((0, 0, 0.01, 0.05)),
        )
        self.world.stun = StunServer(self.world, "8.8.8.8").names
        for _ in range(draw.choice((0, 1, 1, 2))):
            self.world.add_relay()
        for _ in range(draw.choice((2, 2, 2, 3))):
            shared = draw.random() < 0.1 and self.world.players
            home = self.world.players[-1].home if shared else None
            self.world.add_player(draw.choice(KINDS), home)
        self.began_ns = self.world.now_ns
        kinds = ", ".join(f"{p.name} {p.home.kind} {p.home.public}" for p in self.world.players)
        conditions = f"{self.world.delay_ms} ms, jitter {self.world.jitter_ms} ms"
        self._tell(
            f"{kinds}; {len(self.world.relays)} relays; {conditions}, {self.world.loss} lost"
        )
        self.model = Model(self.world)
        self.watch = Watch(self.model)

    def play(self) -> Outcome:
        for player in self.world.players:
            player.start()
        for _ in range(self.draw.choice((0, 1, 2, 2, 3))):
            at_ns = self.began_ns + int(self.draw.uniform(*TROUBLE_S) * S)
            self.world.at(at_ns, self._trouble())
        end_ns = self.began_ns + int(END_S * S)
        self._look(end_ns)
        self._stream(0, end_ns)
        self.world.run_until_ns(end_ns)
        self.watch.look_at_quiet()
        self.watch.look_at_rates()
        gap_ms = self.watch.gap_ns // MS
        return Outcome(self.seed, tuple(self.watch.failures), tuple(self.story), gap_ms)

    def _look(self, end_ns: int) -> None:
        self.watch.look()
        if self.world.now_ns + LOOK_NS < end_ns:
            self.world.at(self.world.now_ns + LOOK_NS, partial(self._look, end_ns))

    def _stream(self, sequence: int, end_ns: int) -> None:
        for player in self.world.players:
            for other in player.others:
                player.stream(other, sequence)
        if self.world.now_ns < end_ns:
            self.world.at(self.world.now_ns + PACE_NS, partial(self._stream, sequence + 1, end_ns))

    # --- what breaks ----------------------------------------------------------------------------

    def _trouble(self) -> Callable[[], None]:
        player = self.draw.choice(self.world.players)
        troubles: list[Callable[[], None]] = [
            partial(self._cut, *self.draw.choice(self.world.pairs), self.draw.uniform(1, 12)),
            partial(self._cut, *self.draw.choice(self.world.pairs), 0),
            partial(self._forget, player),
            partial(self._move, player),
            partial(self._restart, player),
        ]
        if self.world.relays:
            relay = self.draw.randrange(len(self.world.relays))
            troubles += [
                partial(self._kill_relay, relay, 0),
                partial(self._kill_relay, relay, self.draw.uniform(0.1, 8)),
            ]
        return self.draw.choice(troubles)

    def _cut(self, one: Player, other: Player, mend_s: float) -> None:
        cut = frozenset((one.home.public, other.home.public))
        self._tell(f"cut {one.name}-{other.name}")
        self.world.cuts.add(cut)
        self.model.note()
        if mend_s:
            self.world.at(self.world.now_ns + int(mend_s * S), partial(self._mend, cut))

    def _mend(self, cut: frozenset[str]) -> None:
        self._tell(f"mended {' '.join(sorted(cut))}")
        self.world.cuts.discard(cut)
        self.model.note()

    def _kill_relay(self, number: int, again_s: float) -> None:
        relay = self.world.relays[number]
        self._tell(f"killed {relay.name}")
        relay.alive = False
        self.model.note()
        if again_s:
            again = partial(self._start_relay, number)
            self.world.at(self.world.now_ns + int(again_s * S), again)

    def _start_relay(self, number: int) -> None:
        self._tell(f"started {self.world.relays[number].name}")
        self.world.relays[number].restart()
        self.model.note()

    def _forget(self, player: Player) -> None:
        self._tell(f"the router of {player.name} forgot")
        player.home.forget()
        self._disturb(player)

    def _move(self, player: Player) -> None:
        self.world.move(player.home)
        self._tell(f"{player.name} moved to {player.home.public}")
        self._disturb(player)
        self.model.note()

    def _restart(self, player: Player) -> None:
        self._tell(f"{player.name} started again")
        player.start()
        self.model.disturb(player)

    def _disturb(self, player: Player) -> None:
        for each in self.world.players:
            if each.home is player.home:
                self.model.disturb(each)

    def _tell(self, what: str) -> None:
        at_s = (self.world.now_ns - self.began_ns) / S if hasattr(self, "began_ns") else 0
        self.story.append(f"at {at_s:.2f} s: {what}")


def play(seed: int) -> Outcome:
    return Evening(seed).play()
