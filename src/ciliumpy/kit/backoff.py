# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow by `factor` from `first_s` to `most_s`, each shortened by chance by up to the part `jitter`.

    The chance keeps many who failed together from coming back together.
    """

    first_s: float = 0.1
    most_s: float = 60.0
    factor: float = 2.0
    jitter: float = 0.3

    def delay_s(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after that many failures in a row (1 or more). `chance` gives 0 to 1."""
        # The exponent is bounded: 2.0 ** 1100 is an OverflowError, and by then the limit is long reached.
        whole = min(self.most_s, self.first_s * self.factor ** min(max(failures - 1, 0), 64))
        return whole * (1 - self.jitter * chance())
