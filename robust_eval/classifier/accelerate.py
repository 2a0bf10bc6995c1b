"""A faster twin of a network: the same function of the image, in the form that the processor likes best.

The twin is a traced copy in channels-last layout whose batch normalisations are folded into the convolutions before
them (Jacob et al. 2018, arXiv 1712.05877, equation 14: ``w' = γ w / σ``). A second copy computes in bfloat16, all but
the layers up to the first and from the last with weights: the spacing of bfloat16 near 1 is 1/256, coarser than a step
of an attack in the pixels, and coarser than differences between logits.

A copy is used only if it gives the network's own logits on a few images. Tracing writes down one run of ``forward``, so
a network is left as it is where that could miss something: randomness, hooks, values kept between calls, branches on
the data. Why is said in the log.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast, get_args
from weakref import WeakKeyDictionary

import jaxtyping
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robust_eval.errors import THEIRS, ConfigError
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, Logits, StochasticModule

__all__ = ["Precision", "Twins", "pick_precision", "twins"]

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16"]
EXACT = 1e-4
"""By how much the twin's logits may differ from the network's, relative to the largest of them: rounding of float32."""
CLOSE = 0.1
"""By how much logits in bfloat16 may differ, relative to the spread of the logits; more, and it proposes nonsense."""
SAME = 1e-2
"""By how much a gradient of the twin may differ, relative to its length. On honest networks it was 1e-6 at most, where
a trace had lost a backward pass 1."""
PROBES = 4
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Twins(NamedTuple):
    """What stands in for a network: ``None`` where the network itself has to be asked."""

    exact: nn.Module | None
    """The same logits up to rounding."""
    fast: nn.Module | None
    """Logits in bfloat16, returned in float32."""
    reason: str | None
    """Why one of them is missing."""


def pick_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision of gradients; ``auto`` is bfloat16 where the processor or GPU has instructions for it.

    Raises ``ConfigError`` for an unknown name.
    """
    if wanted not in get_args(Precision):
        raise ConfigError(f"precision: expected one of {', '.join(get_args(Precision))}, got {wanted!r}")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("amx_tile") else "fp32"


_KNOWN: WeakKeyDictionary[nn.Module, dict[str, tuple[object, Twins]]] = WeakKeyDictionary()


def twins(
    network: nn.Module, x: Images, precision: Literal["fp32", "bf16"], *, compiled: bool = False
) -> Twins:
    """Return the twins of a network in eval mode, made from its weights as they are now.

    They are kept as long as the network lives and its weights do not change. ``x`` is what the network is about
    to see; a few of its images are used to compare. ``compiled`` hands them to ``torch.compile``, which takes minutes
    and is meant for long runs on a GPU: on two CPU cores the compiled twin was slower than the plain one.
    """
    state = _state(network)
    kept = _KNOWN.setdefault(network, {})
    form = f"{precision} {x.dtype}{' compiled' if compiled else ''}"
    if form not in kept or kept[form][0] != state:
        with surroundings_kept():  # its forward is run
            made = _make(network, x[:PROBES].detach(), precision)
        if made.reason is not None:
            log.info("%s is used as it is: %s", type(network).__name__, made.reason)
        if compiled:
            made = Twins(_compiled(made.exact), _compiled(made.fast), made.reason)
        kept[form] = (state, made)
    return kept[form][1]


def _compiled(twin: nn.Module | None) -> nn.Module | None:
    # the number of images changes from step to step: one program for all
    return None if twin is None else cast("nn.Module", torch.compile(twin, dynamic=True))


def _state(network: nn.Module) -> object:
    """What changes when a weight or a statistic does, in place or not."""
    tensors = (*network.parameters(), *network.buffers())
    weights = [(tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in tensors]
    return weights, _plain_values(network)


def _make(network: nn.Module, x: Images, precision: Literal["fp32", "bf16"]) -> Twins:
    if any(isinstance(module, StochasticModule) and module.stochastic for module in network.modules()):
        return Twins(None, None, "its output is random")
    if not all(getattr(module, "traceable", True) for module in network.modules()):
        return Twins(None, None, "its gradients are carried through steps that have none")
    if x.dtype != torch.float32:
        return Twins(None, None, f"its images are {x.dtype}, not float32")
    weights = {weight.dtype for weight in network.parameters() if weight.is_floating_point()}
    if weights - {torch.float32}:
        return Twins(None, None, f"its weights are {' and '.join(sorted(map(str, weights)))}, not float32")
    if not len(x):
        return Twins(None, None, "there are no images to compare with")
    traced = _traced(network)
    if isinstance(traced, str):
        return Twins(None, None, traced)
    with torch.no_grad():
        logits = _answer(network, x)
        if logits is None or not torch.equal(logits, _answer(network, x, seed=1)):  # type: ignore[arg-type]
            return Twins(None, None, "its output is random")
        if logits.ndim != 2 or len(logits) != len(x):
            return Twins(None, None, "it gives these images no logits [n,classes]")
        if not logits.isfinite().all():
            return Twins(None, None, "its logits are not finite")
        gradient = _gradient(network, x, logits)
        exact = _folded(traced)
        if not _matches(exact, x, logits, EXACT * logits.abs().max(), gradient, SAME):
            exact = _traced(network)  # type: ignore[assignment]
            if not _matches(exact, x, logits, EXACT * logits.abs().max(), gradient, SAME):
                return Twins(None, None, "a traced copy gives other logits or gradients")
        if precision == "fp32":
            return Twins(exact, None, None)
        fast = _halved(exact)
        if isinstance(fast, str):
            return Twins(exact, None, fast)
        if not _matches(fast, x, logits, CLOSE * _spread(logits), gradient, math.inf):
            return Twins(exact, None, "in bfloat16 it gives other logits")
    return Twins(exact, fast, None)


def _traced(network: nn.Module) -> fx.GraphModule | str:
    """Return a traced channels-last copy, or why there is none."""
    for module in network.modules():
        if any(getattr(module, kind) for kind in HOOKS):
            return "it has hooks"
    try:
        # on a copy: a forward that counts its calls would count this one
        twin = copy.deepcopy(network)
        for weight in twin.parameters():
            weight.requires_grad_(False)
        before = _plain_values(twin)
        with _annotations_unchecked():
            traced = fx.symbolic_trace(twin)
    except THEIRS as error:
        return f"it cannot be traced ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    if _plain_values(twin) != before:
        return "its forward keeps values between calls"
    if any(hasattr(module, "parametrizations") for module in network.modules()):
        return "its weights are computed at each call"
    return traced.eval().to(memory_format=torch.channels_last)


@contextmanager
def _annotations_unchecked() -> Iterator[None]:
    """Let a tracer's stand-ins through annotations of shapes, should those be checked at run time."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _plain_values(network: nn.Module) -> list[tuple[str, str, object]]:
    """The attributes that a forward may have changed: plain values by value, everything else by identity."""
    own = set(vars(nn.Module()))
    return [
        (name, key, value if isinstance(value, int | float | str | bool | None) else id(value))
        for name, module in network.named_modules()
        for key, value in vars(module).items()
        if key not in own and not key.startswith("_tensor_constant")  # those are the tracer's
    ]


def _folded(traced: fx.GraphModule) -> fx.GraphModule:
    """Fold each batch normalisation that is the only reader of a convolution, in place."""
    modules = dict(traced.named_modules())
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    used = [node.target for node in calls]
    for node in calls:
        source = node.args[0] if node.args else None
        if not isinstance(modules[node.target], nn.BatchNorm2d) or not isinstance(source, fx.Node):
            continue
        if source.op != "call_module" or not isinstance(modules[str(source.target)], nn.Conv2d):
            continue
        if len(source.users) > 1 or used.count(source.target) > 1 or used.count(node.target) > 1:
            continue
        if modules[node.target].running_mean is None:  # it normalises by the batch
            continue
        fused = fuse_conv_bn_eval(modules[str(source.target)], modules[node.target])
        _set(traced, str(source.target), fused)
        modules[str(source.target)] = fused
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    for weight in traced.parameters():
        weight.requires_grad_(False)
    return traced.to(memory_format=torch.channels_last)


def _halved(exact: fx.GraphModule) -> fx.GraphModule | str:
    """Return a copy in bfloat16 between its first and its last layer with weights, or why there is none."""
    twin = copy.deepcopy(exact)
    modules = dict(twin.named_modules())
    nodes = list(twin.graph.nodes)
    weighted = [
        i
        for i, node in enumerate(nodes)
        if node.op == "call_module" and isinstance(modules[node.target], WEIGHTED)
    ]
    if len(weighted) < 3:
        return "it has fewer than three layers with weights, and the first and the last stay in float32"
    first, last = nodes[weighted[0]], nodes[weighted[-1]]
    within = nodes[weighted[0] + 1 : weighted[-1]]
    # the target of another kind of node is the name of a function or a method, as that of a buffer may be
    outside = {_held_by(node) for node in nodes if node not in within} - {None}
    for node in within:
        if _held_by(node) in outside:
            return f"{node.target} is used both where it would compute in bfloat16 and where it must not"
        if node.op == "call_module" and not isinstance(modules[node.target], nn.modules.batchnorm._BatchNorm):
            modules[node.target].to(torch.bfloat16)
        elif node.op == "get_attr":
            _to_bfloat16(twin, str(node.target))
    _cast(twin, first, torch.bfloat16, after=True)
    _cast(twin, last.args[0], torch.float32, only=last)
    output = next(node for node in nodes if node.op == "output")
    if isinstance(output.args[0], fx.Node):
        _cast(twin, output.args[0], torch.float32, only=output)
    twin.graph.lint()
    twin.recompile()
    return twin


def _held_by(node: fx.Node) -> str | None:
    """The name of the layer or tensor that a node takes from the network; ``None`` where it takes none."""
    return str(node.target) if node.op in ("call_module", "get_attr") else None


def _cast(
    twin: fx.GraphModule, node: Any, dtype: torch.dtype, *, after: bool = False, only: fx.Node | None = None
) -> None:
    """Insert a cast behind a node: for all of its readers, or for one."""
    with twin.graph.inserting_after(node):
        cast = twin.graph.call_method("to", (node, dtype))
    if only is not None:
        only.replace_input_with(node, cast)
    elif after:
        node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)


def _to_bfloat16(twin: fx.GraphModule, target: str) -> None:
    path, _, name = target.rpartition(".")
    owner = twin.get_submodule(path)
    value = getattr(owner, name)
    if isinstance(value, Tensor) and value.is_floating_point():
        value = value.detach().to(torch.bfloat16)
        if name in owner._parameters:
            owner._parameters[name] = nn.Parameter(value, requires_grad=False)
        else:
            setattr(owner, name, value)


def _set(root: nn.Module, target: str, module: nn.Module) -> None:
    path, _, name = target.rpartition(".")
    setattr(root.get_submodule(path), name, module)


def _answer(network: nn.Module, x: Images, seed: int = 0) -> Tensor | None:
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        out = network(x.clone())  # which may write into what it is given
    return out if isinstance(out, Tensor) else None


def _gradient(network: nn.Module, x: Images, logits: Logits) -> Images | None:
    """Return a gradient of the network's own; ``None`` where it has none."""
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        try:
            with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
                out = network(leaf.clone())
                return torch.autograd.grad((out * logits).sum(), leaf)[0]
        except RuntimeError:
            return None


def _matches(
    twin: nn.Module, x: Images, logits: Logits, tolerance: Tensor, gradient: Images | None, turned: float
) -> bool:
    """Whether a twin answers like the network, and leads where it leads: a trace forgets ``no_grad``, and the backward
    pass of a function that writes its own.
    """
    own = gradient
    try:
        # with a graph, as attacks will use it; batches of another size must do as well
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            out = twin(leaf.clone(memory_format=torch.channels_last))
            (gradient,) = torch.autograd.grad((out * logits).sum(), leaf)
        alone = twin(x[:1].clone(memory_format=torch.channels_last))
    except THEIRS as error:
        log.debug("a twin failed", exc_info=error)
        return False
    if out.shape != logits.shape or not out.isfinite().all():
        return False
    if own is None or not (gradient - own).norm() <= turned * own.norm() + 1e-12:  # NaN does not match either
        return False
    return bool((out - logits).abs().max() <= tolerance and (alone - logits[:1]).abs().max() <= tolerance)


def _spread(logits: Logits) -> Tensor:
    """The largest logit over the smallest, of each image; their median."""
    return (logits.amax(1) - logits.amin(1)).median()
