"""The truth about small ReLU networks in linf: who can be broken and who cannot, by mixed-integer linear programming.

Tjeng, Xiao and Tedrake 2019, arXiv 1711.07356, with bounds by interval arithmetic and scipy's HiGHS. A unit
``h = max(a, 0)`` with ``l <= a <= u`` is ``h >= 0, h >= a, h <= a - l (1 - z), h <= u z`` with z in {0, 1}. What the
solver finds is a counterexample, which the network judges; that there is none is the proof.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn
from torch.nn import functional

SURE = 1e-5
"""How far below zero a proven margin must be: ten times what HiGHS lets a constraint be missed by."""
INFEASIBLE = 2


class Truth(NamedTuple):
    """What is known of each image; neither is true where the largest margin is zero to within ``SURE``."""

    robust: torch.Tensor
    """No point of the ball, within the box, has another class ahead: proven."""
    broken: torch.Tensor
    """The network is wrong at ``point``."""
    point: torch.Tensor


def exact(network, x, y, eps):
    """Return the truth about images [n,...] in [0, 1] within ``eps``, for a sequence of linear layers and ReLUs."""
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]
    found = [_counterexample(layers, one, int(label), eps) for one, label in zip(x, y, strict=True)]
    robust = torch.tensor([at is None for at in found])
    point = [one.flatten().double().numpy() if at is None else at for one, at in zip(x, found, strict=True)]
    points = torch.from_numpy(np.stack(point)).to(x.dtype).view_as(x)
    with torch.no_grad():
        return Truth(robust, ~robust & (network(points).argmax(1) != y), points)


def trained(widths, *, eps=0.0, steps=200, classes=10):
    """Return a network of linear layers with so many hidden units, trained on digits, on FGSM points within ``eps``;
    of the first so many digits.
    """
    from robust_eval.data.digits import Digits

    torch.manual_seed(0)
    sizes = [64, *widths, classes]
    modules = [nn.Flatten()]
    for size, after in itertools.pairwise(sizes):
        modules += [nn.Linear(size, after), nn.ReLU()]
    network = nn.Sequential(*modules[:-1])
    examples = Digits().train()
    known = examples.labels < classes
    everything = examples.pixels()[known], examples.labels[known]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(steps):
        x, y = (part[step % 5 :: 5] for part in everything)
        points = x
        if eps:
            start = (x + eps * (2 * torch.rand_like(x) - 1)).requires_grad_()
            functional.cross_entropy(network(start), y).backward()
            points = torch.clamp((start + eps * start.grad.sign()).detach(), x - eps, x + eps).clamp(0, 1)
        optimizer.zero_grad()
        functional.cross_entropy(network(points), y).backward()
        optimizer.step()
    return network.double().eval()


def _counterexample(layers, x, y, eps):
    """Return a point at which another class is ahead of ``y``, or behind by less than ``SURE``; ``None`` is a proof."""
    middle = x.flatten().double().numpy()
    low, high = np.clip(middle - eps, 0, 1), np.clip(middle + eps, 0, 1)
    constraint, bounds, integral, last = _program(layers[:-1], low, high)
    weight, bias = layers[-1]
    slopes, offsets = weight - weight[y], bias - bias[y]
    # by the intervals alone; the likeliest class first
    most = np.maximum(slopes * bounds.lb[last], slopes * bounds.ub[last]).sum(1) + offsets
    for target in np.argsort(-most):
        if target == y or most[target] < -SURE:
            continue
        ahead = np.zeros(len(integral))
        ahead[last] = slopes[target]
        wanted = LinearConstraint(ahead, -SURE - offsets[target], np.inf)
        for cost in (np.zeros_like(ahead), -ahead):
            solved = milp(cost, constraints=[constraint, wanted], bounds=bounds, integrality=integral)
            if solved.status == INFEASIBLE:
                break
            assert solved.success, solved.message
            # any point will do where the class is ahead; where it is not, the furthest one is looked for
            if ahead @ solved.x + offsets[target] > SURE:
                break
        if solved.status != INFEASIBLE:
            return np.clip(solved.x[: len(middle)], low, high)
    return None


def _program(layers, low, high):
    """Return constraints, bounds and kinds of the variables, and the columns of the last hidden layer."""
    size = len(low) + 2 * sum(len(bias) for _, bias in layers)
    lower, upper, integral = np.zeros(size), np.ones(size), np.zeros(size)
    lower[: len(low)], upper[: len(low)] = low, high
    before, used, rows, least, most = slice(0, len(low)), len(low), [], [], []
    for weight, bias in layers:
        units = len(bias)
        h = slice(used, used + units)
        z = slice(h.stop, h.stop + units)
        plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
        a_low = plus @ lower[before] + minus @ upper[before] + bias
        a_high = plus @ upper[before] + minus @ lower[before] + bias
        least_a, most_a = np.minimum(a_low, 0), np.maximum(a_high, 0)
        lower[h], upper[h] = np.maximum(a_low, 0), most_a
        lower[z], upper[z], integral[z] = a_low >= 0, a_high > 0, 1
        eye, above, below, off = np.eye(units), *(np.zeros((units, size)) for _ in range(3))
        above[:, before], above[:, h] = -weight, eye  # h - W x >= b
        below[:, before], below[:, h], below[:, z] = -weight, eye, -np.diag(least_a)  # h - W x - l z <= b - l
        off[:, h], off[:, z] = eye, -np.diag(most_a)  # h - u z <= 0
        rows += [above, below, off]
        infinite = np.full(units, np.inf)
        least += [bias, -infinite, -infinite]
        most += [infinite, bias - least_a, np.zeros(units)]
        before, used = h, z.stop
    constraint = LinearConstraint(np.concatenate(rows), np.concatenate(least), np.concatenate(most))
    return constraint, Bounds(lower, upper), integral, before
