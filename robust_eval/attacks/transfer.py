"""Attack another model and carry the points over: ``transfer:pgd`` is PGD on a surrogate of yours.

A baseline: who may use the gradients of the model itself must do better than who may not, or the gradients are masked
(Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 3.1: black-box attacks are better than white-box ones).

Fields are ``surrogate``, the file of the other model's weights, ``architecture``, ``mean`` and ``std`` as for a model
that is evaluated (none is needed where a card of ``robust-eval train`` lies beside it), and those of the attack behind
the colon, which must stay within a radius: the nearest point that fools the surrogate says nothing about another model.
The weights' sha256 is in a record's key, their path is not.

The surrogate is climbed to the last step, whether or not it is fooled on the way, on every image that the attacked
model gets right; the passes through it are counted as the attack's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, ClassVar, NamedTuple, get_type_hints

from torch import Tensor, nn

from robust_eval.attacks._aim import Aim
from robust_eval.classifier import Classifier, to_eval
from robust_eval.classifier.masked import Layout
from robust_eval.errors import CheckpointError, ConfigError, DataError
from robust_eval.fields import Real
from robust_eval.identity import file_sha256
from robust_eval.methods import FEW, Attack, Passes
from robust_eval.models.answers import ANSWERS, answers
from robust_eval.models.checkpoint import state_sha256
from robust_eval.models.loading import load_network, recipe_on_card
from robust_eval.models.named import gives_network
from robust_eval.paths import misnamed
from robust_eval.registry import Resolved, build, find, resolver, version
from robust_eval.rng import Rng
from robust_eval.threat import Spatial, Threat
from robust_eval.types import AttackResult, Images, Labels, StochasticModule

__all__ = ["Transfer"]


class Transfer(Attack):
    """What an attack on a surrogate does; :func:`_resolve` gives it the fields of the attack behind the colon."""

    masked_as: ClassVar[Layout | None] = None
    baseline: ClassVar[bool] = True
    asks_model: ClassVar[bool] = False
    behind: ClassVar[str]
    """The name of the attack on the surrogate."""

    def __post_init__(self) -> None:
        inner, given = self._inner, getattr(self, "identity", None)
        identity = self._surrogate.identity
        told = None if given is None else given.get(ANSWERS)
        if told is not None:
            identity = {**identity, ANSWERS: told}
        if given is not None and given != identity:
            raise CheckpointError(
                f"surrogate {getattr(self, 'surrogate', None)}: expected the model that was used then, got another "
                "file, architecture or normalisation"
            )
        object.__setattr__(self, "identity", identity)
        # what the attack made of its fields
        for field in dataclasses.fields(inner):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, getattr(inner, field.name))

    @property
    def _inner(self) -> Attack:
        names = (field.name for field in dataclasses.fields(find("attack", self.behind)))
        made: Attack = build("attack", self.behind, {name: getattr(self, name) for name in names})
        return made

    @property
    def _surrogate(self) -> _Surrogate:
        names = ("surrogate", "architecture", "mean", "std")
        path, architecture, mean, std = (getattr(self, name) for name in names)
        if path is None and not gives_network(architecture):
            raise ConfigError(
                f"attack 'transfer:{self.behind}': expected surrogate, the file of another model's weights "
                f"(--set transfer:{self.behind}.surrogate=other.safetensors), got none"
            )
        if path is not None and (problem := misnamed(path)) is not None:
            raise ConfigError(f"attack 'transfer:{self.behind}': surrogate: {problem}")
        sha256 = None if path is None else file_sha256(path)
        return _loaded(path, sha256, json.dumps(architecture), mean, std)

    @property
    def network_identity(self) -> dict[str, Any]:
        """What the surrogate is known by, its answers left out."""
        return self._surrogate.identity

    def answers(self, shape: tuple[int, int, int]) -> Tensor | None:
        """Return the surrogate's logits for a few fixed images of this shape; ``None`` where they depend on draws."""
        network = self._surrogate.network
        drawn = isinstance(network, StochasticModule) and network.stochastic
        return None if drawn else answers(network, shape)

    def told_apart(self, word: str) -> Transfer:
        """Return the attack with an identity that says which of several sets of answers its surrogate gives."""
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        made["identity"] = {**self.network_identity, ANSWERS: word}
        return type(self)(**made)

    @property
    def threat(self) -> Threat | Spatial:
        """The ball of the attack on the surrogate."""
        return self._inner.threat

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack the surrogate on a batch [n,c,h,w] in [0, 1] that the model classifies correctly.

        The step is 0 where the point also fools the model.
        """
        surrogate = Classifier(
            self._surrogate.network.to(x.device),
            batch_size=model.batch_size,
            stop_when_fooled=False,
            precision=model.precision,
            accelerate=model.accelerate,
        )
        surrogate.ledger = model.ledger
        with surrogate.frozen():
            self._try_on(surrogate, x, y, rng.child("try"))
            found = self._inner.run(surrogate, x, y, rng=rng.child("surrogate"))
        reached = Aim(y, found.target).holds(model, found.x_adv, rng=rng.child("success"))
        return AttackResult(found.x_adv, reached.long() - 1, found.target)

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return what is wrong with the attack's parameters for images of this shape [c,h,w]."""
        return self._inner.misfit(shape)

    def cost(self, classes: int) -> Passes | None:
        """Return the passes an image costs at most: those through the surrogate, and the few that measure here."""
        there = self._inner.cost(classes)
        return None if there is None else there.and_(Passes(FEW, 0))

    def _try_on(self, surrogate: Classifier, x: Images, y: Labels, rng: Rng) -> None:
        if not len(x):
            return
        where, shape = f"transfer:{self.behind}: the surrogate", "x".join(map(str, x.shape[1:]))
        try:
            classes = surrogate.logits(x[:1], rng=rng.select(slice(1))).shape[1]
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{where} cannot take images of {shape} ({reason})") from None
        if int(y.max()) >= classes:
            raise DataError(f"{where} has {classes} classes, and there is a label {int(y.max())}")


class _Surrogate(NamedTuple):
    """A network, and what decides its weights."""

    network: nn.Module
    identity: dict[str, Any]


@functools.lru_cache(maxsize=4)
def _loaded(
    path: str | None,
    sha256: str | None,
    architecture_json: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> _Surrogate:
    """Load a surrogate once for its attack at several radii; the hash says whether the file is still the same."""
    architecture, recipe = json.loads(architecture_json), recipe_on_card(path, "architecture")
    if architecture is None and not recipe:
        raise ConfigError(
            f"surrogate {path}: expected an architecture (a registered name or file.py:factory), got none; only "
            "weights with a card beside them can do without"
        )
    made = load_network(path, architecture, mean, std, recipe=recipe, where=f"surrogate {path}: ")
    return _Surrogate(
        to_eval(made.network), made.identity(made.weights_sha256 or sha256 or state_sha256(made.network))
    )


@resolver("attack", "transfer")
@functools.cache
def _resolve(name: str) -> Resolved:
    """Return the dataclass of an attack on a surrogate: its own fields and the surrogate's."""
    inner = find("attack", name)
    if inner.minimal_norm or issubclass(inner, Transfer):
        raise ConfigError(
            f"attack 'transfer:{name}': expected an attack that stays within a radius, such as transfer:pgd, got "
            f"{name}: the nearest point that fools a surrogate says nothing about another model"
        )
    hints = get_type_hints(inner, include_extras=True)
    here = {"identity": False}
    made = dataclasses.make_dataclass(
        f"Transfer_{name.replace(':', '_').replace('-', '_')}",
        [
            ("surrogate", str | None, dataclasses.field(default=None, metadata=here)),
            ("architecture", str | dict[str, Any] | None, dataclasses.field(default=None, metadata=here)),
            ("mean", tuple[Real, ...] | None, dataclasses.field(default=None, metadata=here)),
            ("std", tuple[Real, ...] | None, dataclasses.field(default=None, metadata=here)),
            *(
                (field.name, hints[field.name], dataclasses.field(default=field.default))
                for field in dataclasses.fields(inner)
            ),
            ("identity", dict[str, Any] | None, dataclasses.field(default=None)),
        ],
        bases=(Transfer,),
        namespace={
            "behind": name,
            "norms": inner.norms,
            "gradients": inner.gradients,
            "own_units": inner.own_units,
            "sweeps": getattr(inner, "sweeps", ("eps",)),
            "__doc__": f"``{name}`` on a surrogate, its points measured on the model that is evaluated.",
        },
        frozen=True,
        kw_only=True,
    )
    made.__module__ = f"transfer:{name}"  # its card is its own docstring
    return Resolved(name, made, version(inner))
