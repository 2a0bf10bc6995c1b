"""The tables of an experiment file, before the methods that they name are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from robust_eval.bounds import LAST_SEED, MOST
from robust_eval.config.method_tables import Table
from robust_eval.config.paper import Paper
from robust_eval.data import ClassOrder, Interpolation
from robust_eval.fields import Real, Seed, Side, Whole
from robust_eval.models.named import gives_network
from robust_eval.registry import checked

__all__ = ["DataTable", "Frame", "ModelTable"]

Name = Annotated[str, Field(min_length=1)]


@checked
@dataclass(frozen=True, kw_only=True)
class DataTable:
    """The images to measure on."""

    name: Name
    """A registered set, a file or folder of a known format, or ``path/to/file.py:factory``, which runs that file."""
    n: Annotated[Whole, Field(ge=1)] | None = None
    """How many test images; all if left out."""
    pool: Name | None = None
    """Training images that defenses mix with; the train split of the set if left out."""
    corrupted: Name | None = None
    """Folder of corrupted test images, such as CIFAR-10-C, that the ``[[corruption]]`` tables are read from; all that
    is in it if there are no such tables. They are made if left out."""
    size: Side | None = None
    """Side in pixels to which encoded images are resized and cropped; as the model's library says, if left out."""
    resize: Side | Literal["squash"] | None = None
    """Shorter side to which encoded images are resized before ``size`` is cropped, or ``squash`` to resize both
    sides; ``size`` if left out."""
    interpolation: Interpolation | None = None
    """How encoded images are resized; bilinear if left out."""
    class_order: ClassOrder | None = None
    """How an image folder's classes are numbered whose names are all numbers, as ``numbers`` or as ``text`` (10 before
    2); as numbers, which is said, if left out."""
    skip_unreadable: bool = False
    """Whether images that cannot be read are left out, which is said; otherwise they end the run."""
    per_class: Annotated[Whole, Field(ge=1)] | None = None
    """How many training images of each class are kept; all if left out."""
    label_noise: Annotated[Real, Field(ge=0, le=1)] = 0.0
    """Part of the training labels that is replaced. Test labels never are."""
    noisy_labels: Literal["any", "other"] = "any"
    """What labels are replaced by: ``any`` class, the true one too, or an ``other`` one."""
    seed: Seed = 0
    """Of which images are kept and which labels are replaced; one for all models, whatever seed they train with."""


@checked
@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """A model of the user's own."""

    checkpoint: Name | None = None
    """Weights: ``.safetensors``, or what ``torch.save`` wrote; may be left out when a factory returns a trained
    model."""
    architecture: str | Table | None = None
    """A registered name, a table with ``name`` and fields, or ``path/to/file.py:factory``, which runs that file; may
    be left out when the checkpoint has a card of :command:`robust-eval train` beside it. ``torchvision:NAME`` and the
    other prefixes are those of :command:`robust-eval list architectures`."""
    name: str | None = None
    mean: tuple[Real, ...] | None = None
    std: tuple[Real, ...] | None = None
    weights: Name | None = None
    """Where in the checkpoint the weights lie, if there are several, such as ``ema``."""
    download: bool = False
    """Whether a library may fetch weights that are not here."""
    seed: Seed | None = None
    """Weights that are drawn from it and not trained, in place of a checkpoint: a network to start from."""

    def __post_init__(self) -> None:
        if self.seed is not None and self.checkpoint is not None:
            raise ValueError("seed: expected a checkpoint or the seed of weights to draw, got both")
        if self.seed is not None and (self.architecture is None or gives_network(self.architecture)):
            raise ValueError(
                f"seed: expected the name of an architecture to draw weights for, got {self.architecture!r}"
            )


@checked
@dataclass(frozen=True, kw_only=True)
class Frame:
    """The experiment file before its methods are looked up."""

    name: str = "experiment"
    seed: Annotated[int, Field(ge=0, le=LAST_SEED, strict=True)] = 0
    draws: Annotated[int, Field(ge=1, le=MOST, strict=True)] = 10
    """Fresh draws over which a randomised model is scored."""
    gradient_draws: Annotated[int, Field(ge=1, le=MOST, strict=True)] | None = None
    """Draws that gradients through a randomised model are averaged over; as many as they need if left out."""
    checks: Literal["quick", "full", "off"] = "quick"
    """How thoroughly each model that is attacked is examined for reasons not to trust its numbers."""
    budget: str | None = None
    """A named set of attacks, before those of the ``[[attack]]`` tables."""
    imports: tuple[str, ...] = ()
    """Modules of the user's that register further methods. Importing runs their code."""
    folder: str | None = None
    """Where relative paths and ``imports`` start; the experiment file's own folder if left out."""
    mask: Name | None = None
    """A ``.npy``, ``.npz`` or PNG file of the pixels that attacks may change (1), all others kept (0)."""
    estimate: Annotated[Real, Field(gt=0, lt=0.5)] | None = None
    """How far from that of all images the accuracy under an attack may be, at 95 %: so many are attacked as that takes.
    All are if left out."""
    watch_test: bool = False
    """Whether the accuracy on the test images is logged after each pass of a training. Nothing is chosen by it."""
    paper: Paper | None = None
    """The published table that this experiment makes again."""
    data: DataTable
    recipe: Table = field(default_factory=dict)
    train: tuple[Table, ...] = ()
    model: tuple[ModelTable, ...] = ()
    attack: tuple[str | Table, ...] = ()
    corruption: tuple[str | Table, ...] = ()
    defense: tuple[str | Table, ...] = ()
    analysis: tuple[str | Table, ...] = ()
