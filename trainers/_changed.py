"""Changes features on their way through a network and keeps the labels: by itself, or under another regularizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from robust_eval.rng import Rng
from robust_eval.types import Images, Logits
from trainers.fitting import Fitting
from trainers.hidden import Change, Layer, layers_of, require_layers

__all__ = ["Changed", "ChangesFeatures"]


@dataclass(frozen=True, kw_only=True)
class ChangesFeatures(Fitting):
    """A regularizer that changes features of hidden layers, image by image, and nothing else."""

    @abstractmethod
    def changes(self, *, rng: Rng, progress: float) -> Mapping[Layer, Change]:
        """Return what is made of the output of each layer, in a pass whose draws are those of ``rng``."""


class Changed(nn.Module):
    """A network whose features are changed in train mode, one change after the other, with new draws in each pass.

    It is made for a batch, has no weights of its own, and is in the mode of the network. Raises ``ConfigError`` for
    layers that the network does not have.
    """

    def __init__(
        self, network: nn.Module, changers: Sequence[ChangesFeatures], *, rng: Rng, progress: float
    ) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        self.changers, self.rng, self.progress = changers, rng, progress
        self.passes: dict[Layer, int] = {}
        require_layers(network, [layer for made in self._changes(0) for layer in made])

    @property
    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The stages of the network, each with the changes of its input in front."""
        stages: Any = self.network.stages
        pairs = zip(layers_of(self.network), stages, strict=True)
        return [self._behind_changes(layer, stage) for layer, stage in pairs]

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h: Tensor = x
        for stage in self.stages:
            h = stage(h)
        return h

    def _changes(self, number: int) -> list[Mapping[Layer, Change]]:
        streams = [self.rng.child("pass", number, place) for place in range(len(self.changers))]
        pairs = zip(self.changers, streams, strict=True)
        return [changer.changes(rng=rng, progress=self.progress) for changer, rng in pairs]

    def _behind_changes(self, layer: Layer, stage: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(h: Tensor) -> Tensor:
            if self.training:
                number = self.passes[layer] = self.passes.get(layer, -1) + 1
                for made in self._changes(number):
                    h = made[layer](h) if layer in made else h
            out: Tensor = stage(h)
            return out

        return run
