"""When the ways to a member are pinged, beside the beats on the used one.

A round is a list of steps after its begin. Soon after something happened they are close together,
since a router in front of the member may open any moment; without success they end in pauses that
grow from 2 to 30 s. A pause may end a little early, to share a wake-up.
"""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000
PROBE_STEPS_NS = tuple(ms * MS for ms in (0, 100, 200, 400, *range(900, 5000, 500)))
LOOK_STEPS_NS = PROBE_STEPS_NS[:5]
DOUBT_STEPS_NS = PROBE_STEPS_NS[:7]
GLANCE_STEPS_NS = (0,)
PAUSES_NS = tuple(s * 1000 * MS for s in (2, 4, 8, 16, 30))


@dataclass(slots=True)
class Rounds:
    began_ns: int = 0
    steps_ns: tuple[int, ...] = ()
    step: int = 0
    pauses: int = 0  # since something happened

    def start(self, steps_ns: tuple[int, ...], now_ns: int) -> None:
        self.began_ns, self.steps_ns, self.step = now_ns, steps_ns, 0

    def start_pause(self, now_ns: int) -> None:
        """After it there is one step, and then a longer one."""
        pause_ns = PAUSES_NS[min(self.pauses, len(PAUSES_NS) - 1)]
        self.pauses += 1
        self.start((pause_ns,), now_ns)

    def stop(self) -> None:
        self.steps_ns = ()

    @property
    def is_over(self) -> bool:
        return self.step >= len(self.steps_ns)

    @property
    def is_pausing(self) -> bool:
        return self.is_over or bool(self.steps_ns[0])

    @property
    def is_probing(self) -> bool:
        return self.steps_ns is PROBE_STEPS_NS and not self.is_over

    def due_ns(self) -> int | None:
        return None if self.is_over else self.began_ns + self.steps_ns[self.step]

    def is_due(self, now_ns: int) -> bool:
        due_ns = self.due_ns()
        return due_ns is not None and now_ns >= due_ns - self.steps_ns[0] // 16

    def advance(self, now_ns: int) -> None:
        """The step that was due is done, and those missed."""
        while self.is_due(now_ns):
            self.step += 1
