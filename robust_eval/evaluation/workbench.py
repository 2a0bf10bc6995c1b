"""What the cells of one worker share: loaded models, images, and results that several cells need.

Everything kept here is a pure function of what it is kept under, so a cell gives the same record whether or not
another has already made what it needs. The undefended adversarials, say, serve the plain model and every defense
that is attacked by transfer.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from robust_eval import checks
from robust_eval.adaptive import FEW, Adapted, GlobalDraws, adapt
from robust_eval.checks.examination import Examination
from robust_eval.classifier import Classifier, Ledger
from robust_eval.classifier.accelerate import Precision
from robust_eval.classifier.memory import images_that_fit
from robust_eval.errors import DataError
from robust_eval.findings import Check
from robust_eval.identity import content_key
from robust_eval.methods import Analysis, Attack, Corruption
from robust_eval.metrics.classification import CLASSES_KEPT, per_example
from robust_eval.registry import describe
from robust_eval.results.cell import Cell, Data, ModelSource
from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Labels, Mask, StochasticModule

__all__ = ["Loaded", "Perturbed", "Scored", "Workbench"]

T = TypeVar("T")
PIXELS_AT_A_TIME = 1 << 19
VALUES_IN_MEMORY = 1 << 24
"""Values of images that a cell holds at a time: 5,461 images of 3x32x32, 111 of 3x224x224."""


class Loaded(NamedTuple):
    """A model ready to be evaluated."""

    network: nn.Module
    weights_sha256: str
    training: dict[str, Any] | None = None
    """What its card says of how it was trained, beside the recipe: how much of noisy labels it learnt."""


class Scored(NamedTuple):
    """How a model answers a batch."""

    prediction: Labels
    """The class; for a stochastic model the one most draws give. -1 where the output is not finite."""
    confidence: Float[Tensor, " n"]
    """Probability of the predicted class, averaged over draws."""
    score: Float[Tensor, " n"]
    """1 for correct, 0 for wrong; the share of correct draws for a stochastic model."""
    worst: Float[Tensor, " n"] | None
    """1 where every draw is correct; ``None`` for a deterministic model."""
    nll: Float[Tensor, " n"]
    brier: Float[Tensor, " n"]
    rank: Int[Tensor, " n"]
    probabilities: Float[Tensor, "n k"] | None
    """Of each class, averaged over draws, in float32; ``None`` for more than ``CLASSES_KEPT`` classes."""

    def part(self, which: slice) -> Scored:
        """Return the answers to some of the images."""
        columns: list[Any] = [None if column is None else column[which] for column in self]
        return Scored(*columns)

    @classmethod
    def together(cls, parts: Sequence[Scored]) -> Scored:
        """Return the answers to several batches as those to one."""
        columns: list[Any] = [
            None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)
        ]
        return cls(*columns)


class Perturbed(NamedTuple):
    """Perturbed images, what they cost, and whom the attack was aimed at."""

    x: Images
    attacked: Mask
    step: Int[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]
    zero_gradients: Int[Tensor, " n"]
    bad_gradients: Int[Tensor, " n"]
    target: Labels | None = None
    """The class each example was pushed to, -1 for those not attacked; ``None`` if the attack is not targeted."""
    precision: str = "fp32"
    """Of the gradients; success and distance are measured in fp32."""
    slow_because: str | None = None
    """Why the attack asked the network itself and not a faster twin."""
    batch_size: int | None = None
    """Images at a time, as it was at the end of the attack."""
    adapted: Adapted | None = None
    """What the attack saw, where it was not simply the model."""
    seconds_saved: float = 0.0
    """What making them had cost when another cell made them; counted to every cell that uses them."""


class Workbench:
    """Loads each model once and keeps what cells share, up to ``memory`` bytes."""

    def __init__(
        self,
        load: Callable[[ModelSource], Loaded],
        *,
        device: str = "cpu",
        batch_size: int | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
        memory: int = 1 << 30,
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision
        self.compiled = compiled
        self._batch_size = batch_size
        self._load = load
        self._memory = memory
        self._fits: dict[str, int] = {}
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def batch_size(self, cell: Cell) -> int:
        """Return how many images pass through a network at a time: as asked, else by their size and the free memory.

        256 images of 32 pixels, 10 of 224: more at a time is no faster on a CPU. On a GPU eight times as many.
        """
        if self._batch_size is not None:
            return self._batch_size
        _, height, width = cell.data.examples.shape
        factor = 8 if self.device.type == "cuda" else 1
        wanted = max(8, factor * min(256, PIXELS_AT_A_TIME // (height * width)))
        key = content_key(cell.model.identity)
        if key not in self._fits:
            one = cell.data.examples.pixels(slice(0, 1)).to(self.device)
            network = self._loaded(cell.model).network
            if isinstance(network, StochasticModule):
                network.redraw(Rng(0).for_batch(1))
            with seeded(Rng(0)):
                self._fits[key] = images_that_fit(network, one) or wanted
        return min(wanted, self._fits[key])

    def parts(self, data: Data) -> list[slice]:
        """Return the parts of a set that are measured one after the other, so that memory does not grow with it."""
        n, size = len(data.examples), max(1, VALUES_IN_MEMORY // math.prod(data.examples.shape))
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def images(self, data: Data, which: slice | Tensor = slice(None)) -> tuple[Images, Labels]:
        """Return images in [0, 1] and labels of a cell on the device."""
        examples = data.examples
        return examples.pixels(which).to(self.device), examples.labels[which].to(self.device)

    def rng(self, cell: Cell, part: slice) -> Rng:
        """Return the cell's stream of random numbers for some of its images: the same for each in whatever part."""
        return Rng(cell.seed).rows(torch.arange(part.start, part.stop))

    def base(self, cell: Cell) -> Classifier:
        """Return the undefended model."""
        return self._classifier(self._loaded(cell.model).network, cell)

    def model(self, cell: Cell) -> Classifier:
        """Return what is scored: the model with its defense, if it has one."""
        if cell.defense is None:
            return self.base(cell)
        if cell.defense.needs_pool and cell.pool is None:
            raise DataError(
                f"defense {describe(cell.defense).name!r} mixes with training images, and {cell.data.name} has none; "
                "name a set of them with --pool, or put train_images and train_labels into the file"
            )
        defense, pool = cell.defense, cell.pool
        spec = {k: cell.spec[k] for k in ("model", "defense", "pool")}

        def make() -> nn.Module:
            return defense.wrap(self._loaded(cell.model).network, pool).to(self.device)

        return self._classifier(self._keep(("defended", content_key(spec)), make), cell)

    def target(self, cell: Cell, *, adapted: bool = True) -> Classifier:
        """Return what the attack sees: the base for a transfer attack, else what is scored; ``adapted`` to it, unless
        the attack wants it as it is.
        """
        model = self.model(cell) if cell.access == "adaptive" else self.base(cell)
        adapts = adapted and (not isinstance(cell.perturbation, Attack) or cell.perturbation.adapts)
        seen = self.adapted(cell) if adapts else None
        # as the papers did: a point that just fools the base says nothing about the defended model
        return Classifier(
            seen.network if seen is not None else model.network,
            decides=seen.decides if seen is not None else None,
            batch_size=model.batch_size,
            stop_when_fooled=cell.access != "transfer",
            precision=self.precision,
            compiled=self.compiled,
        )

    def adapted(self, cell: Cell) -> Adapted:
        """Return the base of a transfer attack, else what is scored, as an attack needs to see it."""
        behind = cell.access == "adaptive"
        parts = ("model", "data", "seed", "draws", "gradient_draws", *(("defense", "pool") if behind else ()))
        spec = {k: cell.spec[k] for k in parts if k in cell.spec}
        base = self._loaded(cell.model).network

        def wrap(network: nn.Module) -> nn.Module:
            if network is base:
                return self.model(cell).network
            assert cell.defense is not None
            return cell.defense.wrap(network, cell.pool).to(self.device)

        def make() -> Adapted:
            prediction = self.clean(self._aimed_at(cell)).prediction.cpu()
            right = (prediction == cell.data.examples.labels).nonzero()[:FEW, 0]
            x, y = self.images(cell.data, right)
            rng = Rng(cell.seed).rows(right).child("adapt")
            with seeded(rng):
                return adapt(
                    base,
                    x,
                    y,
                    rng=rng,
                    wrap=wrap if behind and cell.defense is not None else None,
                    draws=cell.gradient_draws,
                    batch_size=self.batch_size(cell),
                )

        return self._keep(("adapted", content_key(spec)), make)

    def _aimed_at(self, cell: Cell) -> Cell:
        """Return the cell of what is attacked: a model attacked by transfer is attacked as if it stood alone."""
        if cell.access == "adaptive":
            return cell
        return Cell(cell.model, cell.data, seed=cell.seed, draws=cell.draws)

    def _classifier(self, network: nn.Module, cell: Cell) -> Classifier:
        """Return what scores: the network itself, not a faster twin whose logits are equal up to rounding."""
        return Classifier(network, batch_size=self.batch_size(cell), accelerate=False)

    def weights_sha256(self, cell: Cell) -> str:
        """Return the hash of the model's weights."""
        return self._loaded(cell.model).weights_sha256

    def training(self, cell: Cell) -> dict[str, Any] | None:
        """Return what the model's card says of its training, ``None`` if nothing."""
        return self._loaded(cell.model).training

    def score(self, cell: Cell, x: Images, y: Labels, rng: Rng) -> Scored:
        """Score the cell's model on ``x``; a stochastic one over draws that no attack has seen."""
        model = self.model(cell)
        draws = cell.draws if model.stochastic else 1
        with seeded(rng):
            outputs = [
                model.logits(x, rng=rng.child("draw", draw)).double().softmax(1) for draw in range(draws)
            ]
        predictions = torch.stack([_predicted(output) for output in outputs])
        probabilities = torch.stack(outputs).mean(0)
        right = (predictions == y).double()
        # the class most draws give; the smallest of several
        majority = predictions.mode(0).values
        confidence = probabilities.gather(1, majority.clamp(min=0)[:, None])[:, 0]
        worst = right.amin(0) if model.stochastic else None
        kept = probabilities.float() if probabilities.shape[1] <= CLASSES_KEPT else None
        measures = per_example(probabilities, y)
        return Scored(majority, confidence, right.mean(0), worst, **measures, probabilities=kept)

    def clean(self, cell: Cell) -> Scored:
        """Return how the cell's model answers the clean images."""
        spec = {k: cell.spec[k] for k in ("model", "data", "defense", "pool", "seed", "draws")}

        def make() -> Scored:
            return Scored.together(
                [
                    self.score(cell, *self.images(cell.data, part), self.rng(cell, part).child("clean"))
                    for part in self.parts(cell.data)
                ]
            )

        return self._keep(("clean", content_key(spec)), make)

    def certified(self, cell: Cell, part: slice) -> dict[str, NDArray[Any]]:
        """Return what the defense certifies of clean images, as columns of rows; nothing in any other cell."""
        if cell.defense is None or cell.perturbation is not None:
            return {}
        x, _ = self.images(cell.data, part)
        rng = self.rng(cell, part).child("certify")
        with seeded(rng):
            found = cell.defense.certify(self.base(cell), x, rng=rng)
        if found is None:
            return {}
        return {f"certified_{name}": column.cpu().numpy() for name, column in found._asdict().items()}

    def model_checks(self, cell: Cell) -> tuple[Check, ...]:
        """Return the checks on the undefended model's clean outputs."""
        spec = {k: cell.spec[k] for k in ("model", "data", "seed")}

        def make() -> tuple[Check, ...]:
            model, answers = self.base(cell), []
            for part in self.parts(cell.data):
                x, _ = self.images(cell.data, part)
                rng = self.rng(cell, part).child("checks")
                # a network that declares its draws gets the same ones twice
                again = rng.child("again") if isinstance(model.network, GlobalDraws) else rng
                with seeded(rng):
                    answers.append((model.logits(x, rng=rng), model.logits(x, rng=again)))
            first, second = map(torch.cat, zip(*answers, strict=True))
            labels = cell.data.examples.labels.to(self.device)
            return checks.model_checks(first, second, labels, known=model.stochastic)

        return self._keep(("checks", content_key(spec)), make)

    def perturbed(self, cell: Cell, part: slice) -> Perturbed:
        """Return some of the cell's images after its perturbation."""
        if cell.perturbation is None:
            return self._perturb(cell, part)
        wanted = ["data", "perturbation", "seed"]
        if isinstance(cell.perturbation, Attack):
            wanted.append("model")
            if cell.access == "adaptive":
                wanted += ["defense", "pool"]
            if cell.access == "adaptive" or cell.model.stochastic:
                wanted += ["draws", *(["gradient_draws"] if "gradient_draws" in cell.spec else [])]
            if cell.access == "transfer" and not cell.perturbation.minimal_norm:
                wanted.append("access")
        key = ("perturbed", content_key({k: cell.spec[k] for k in wanted}), part.start, part.stop)
        known = key in self._kept
        result, seconds = self._keep(key, lambda: _timed(lambda: self._perturb(cell, part)))
        return result._replace(seconds_saved=seconds) if known else result

    def _perturb(self, cell: Cell, part: slice) -> Perturbed:
        assert not isinstance(cell.perturbation, Examination | Analysis)
        x, y = self.images(cell.data, part)
        rng = self.rng(cell, part).child(cell.family)
        nobody, nothing = torch.zeros_like(y, dtype=torch.bool), torch.zeros(len(x), dtype=torch.int64)
        if cell.perturbation is None:
            return Perturbed(x, nobody, nothing - 1, nothing, nothing, nothing, nothing)
        if isinstance(cell.perturbation, Corruption):
            return Perturbed(
                cell.perturbation(x, rng=rng), nobody, nothing - 1, nothing, nothing, nothing, nothing
            )
        attacked = self.clean(self._aimed_at(cell)).prediction[part] == y
        x_adv, step, ledger, target = x.clone(), torch.full_like(y, -1), Ledger(), None
        precision, slow_because, batch_size = "fp32", None, None
        adapted = self.adapted(cell)
        if attacked.any():
            model = self.target(cell)
            model.ledger = ledger
            with model.frozen(), seeded(rng):
                result = cell.perturbation.run(model, x[attacked], y[attacked], rng=rng.select(attacked))
            x_adv[attacked], step[attacked] = result.x_adv, result.step
            if result.target is not None:
                target = torch.full_like(y, -1)
                target[attacked] = result.target
            precision, slow_because = ("bf16" if model.proposes else "fp32"), model.slow_because
            batch_size = model.batch_size
        columns = (ledger.padded(name, part.stop)[part] for name in Ledger.NAMES)
        forwards, backwards, zero, bad = columns
        return Perturbed(
            x_adv,
            attacked,
            step,
            forwards,
            backwards,
            zero,
            bad,
            target=target,
            precision=precision,
            slow_because=slow_because,
            batch_size=batch_size,
            adapted=adapted,
        )

    def _loaded(self, source: ModelSource) -> Loaded:
        def make() -> Loaded:
            loaded = self._load(source)
            return loaded._replace(network=loaded.network.to(self.device).eval())

        return self._keep(("model", content_key(source.identity)), make)

    def _keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under ``key``, made now if it is not; the least recently used goes first."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > self._memory:
            self._kept.popitem(last=False)
        return cast("T", self._kept[key])


def _predicted(probabilities: Float[Tensor, "n k"]) -> Labels:
    return torch.where(probabilities.isfinite().all(1), probabilities.argmax(1), -1)


def _timed(make: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    made = make()
    return made, time.perf_counter() - started


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, nn.Module):
        return sum(tensor.nbytes for tensor in (*value.parameters(), *value.buffers()))
    return sum(map(_bytes, value)) if isinstance(value, tuple) else 0
