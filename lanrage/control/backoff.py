"""How long to wait before the next try: twice as long each time, up to a limit, and never exactly
as long as the others who lost the same server in the same instant."""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 0.25
MAX_S: Final = 15.0


class Backoff:
    def __init__(self) -> None:
        self._delay_s = FIRST_S

    def reset(self) -> None:
        """It worked."""
        self._delay_s = FIRST_S

    def next_s(self) -> float:
        delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2, MAX_S)
        return delay_s * random.uniform(0.5, 1.0)
