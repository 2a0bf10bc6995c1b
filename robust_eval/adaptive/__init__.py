"""What an attack is pointed at: the model itself, or one with the same decisions whose gradients lead somewhere.

- :mod:`.randomness`: a model that draws random numbers of its own becomes one whose draws are set from outside.
- :mod:`.expectation`: the average over several draws of a stochastic model, and how many are enough.
- :mod:`.mending`: gradients that vanish or are cut off are brought back, by :mod:`.straight_through` among others, and
  outputs that are no logits are turned into such (:mod:`.links`).
- :mod:`.blind_pixels`: which pixels have no gradient although the output depends on them, and whether a remedy tells.
- :mod:`.adapt`: all of it, as far as a model needs it.

Only attacks see these networks. What they find is scored on the model as it is.
"""

from robust_eval.adaptive.adapt import FEW, Adapted, adapt
from robust_eval.adaptive.expectation import Expectation, enough_draws
from robust_eval.adaptive.mending import INSIDE_WORDS, Mended, mend
from robust_eval.adaptive.randomness import GlobalDraws, draws_by_itself

__all__ = [
    "FEW",
    "INSIDE_WORDS",
    "Adapted",
    "Expectation",
    "GlobalDraws",
    "Mended",
    "adapt",
    "draws_by_itself",
    "enough_draws",
    "mend",
]
