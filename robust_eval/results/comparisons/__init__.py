"""What several attacks on one model say about each other, when a report is written: from rows, nothing is run.

- :mod:`.impossible`: what cannot be where gradients lead somewhere; :mod:`.defended`: attacks on a defended model;
  :mod:`.strength`: whether an attack was one that finds errors at all; :mod:`.examined`: whether it leaves images
  standing that the few probes of an examination broke.
- :mod:`.across` makes them all. Every public module is imported, so that the checks in it register themselves: a
  comparison is a function of a :class:`~.group.Group` under ``@check(across=...)``.

*Broken* is an image with a score below 0.5: misclassified, on most draws by a randomised model.

*Clearly* means an exact test at 1 %, one-sided. Of two attacks where one must not be weaker it is McNemar's: of the
images that only one of them breaks, are too many the weaker's? Beside a baseline it is a binomial one: do the images
that only the baseline breaks exceed half a point of accuracy? AutoAttack warns from 0.2 points on, after three strong
attacks; here the white box may be one walk up the cross-entropy, which on adversarially trained networks misses a few
tenths of a point that a black box with a margin loss finds.

Left out of comparisons, as they may be weaker without anything being wrong: points made for another model (access
transfer, and the baselines ``transfer:...``), single steps at several radii (a long step overshoots), attacks towards a
target class. An attack that is not known here, as its library or its module is missing, is not left out in silence:
where a comparison would have to know what it is, that check is recorded as not made.
"""

import sys

from robust_eval.registry import discover
from robust_eval.results.comparisons.across import across
from robust_eval.results.comparisons.examined import behind_examinations

__all__ = ["across", "behind_examinations"]

discover(sys.modules[__name__])
