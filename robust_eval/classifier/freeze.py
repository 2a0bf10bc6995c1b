"""A network held still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["frozen"]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode with weights that need no gradient; restore each module and weight on leaving."""
    modes = [(module, module.training) for module in network.modules()]
    # lazy ones are no weights yet: they become such when an image comes
    weights = [weight for weight in network.parameters() if not nn.parameter.is_lazy(weight)]
    needs = [(weight, weight.requires_grad) for weight in weights]
    try:
        network.eval()
        for weight, _ in needs:
            weight.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, need in needs:
            weight.requires_grad_(need)
