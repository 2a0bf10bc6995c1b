"""Any attack of other libraries by name: ``foolbox:L2BrendelBethgeAttack``, ``torchattacks:Pixle``.

Also ``pyautoattack:standard`` and its parts. The library's code searches; our own loop decides whom to attack and
measures what comes back: box, distance and success at full precision (see :mod:`._peer`). Fields are
the parameters of the library's class with its defaults, beside ``eps`` (and ``norm``, where a class knows several), the
``restarts`` of our loop and ``library``, name and version: all of them are in a record's key. ``n_classes`` is the
model's and the seed is the cell's. Of several names of a Foolbox class the shortest is its own.

A class that takes a radius is run once for each; one that minimises l2, linf or l1 is scored at radii by the distances
it found. What minimises or bounds something else (changed pixels, angles) or nothing at all has no radius in those
norms: it is scored by whether it fools the model with any image in [0, 1], a linf radius of 1.

Foolbox's Brendel-Bethge attacks also need ``numba``, which Foolbox does not install.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from robust_eval.attacks.peers import _foolbox, _pyautoattack, _torchattacks
from robust_eval.attacks.peers._peer import Theirs, peer_class
from robust_eval.errors import ConfigError
from robust_eval.registry import Resolved, resolver

__all__ = ["LIBRARIES", "Counterpart", "counterparts", "installed"]

LIBRARIES: dict[str, Callable[[str, str], Theirs]] = {
    "foolbox": _foolbox.find,
    "torchattacks": _torchattacks.find,
    "pyautoattack": _pyautoattack.find,
}


def installed() -> dict[str, str]:
    """Return the versions of the libraries that are there, by name; none is imported."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _resolve(library: str, name: str) -> Resolved:
    if library not in installed():
        raise ConfigError(
            f"attack '{library}:{name}': {library} is not installed; pip install 'robust-eval[peers]'"
        )
    try:
        importlib.import_module(library)
    except Exception as error:  # a package that is there and does not start
        reason = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        raise ConfigError(f"attack '{library}:{name}': {library} cannot be imported ({reason})") from None
    theirs = LIBRARIES[library](name, f"{library} {installed()[library]}")
    return Resolved(theirs.name.partition(":")[2], peer_class(theirs))


for _library in LIBRARIES:
    resolver("attack", _library)(functools.partial(_resolve, _library))


class Counterpart(NamedTuple):
    """The attack of a library that should do what one of ours does."""

    name: str
    params: dict[str, Any]


def counterparts(name: str, params: Mapping[str, Any]) -> list[Counterpart]:
    """Return the libraries' versions of one of our attacks at the same parameters, installed or not.

    ``params`` are those of its description. A target, or another loss than theirs, has no counterpart. Foolbox's MIM
    accumulates signs, which is another method; it is compared all the same.
    """
    make = _SAME.get(name)
    if make is None or params.get("target") is not None or params.get("loss", "ce") not in _LOSSES:
        return []
    return make(params)


_LOSSES = ("ce", "dlr", "annealed")
"""Those that the libraries climb, and ours of the attacks that look for the smallest perturbation."""


def _ball(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: params[key] for key in ("eps", "norm") if key in params}


def _fgsm(p: Mapping[str, Any]) -> list[Counterpart]:
    eps = {"eps": p["eps"]}
    return {
        "linf": [Counterpart("foolbox:FGSM", eps), Counterpart("torchattacks:FGSM", eps)],
        "l2": [Counterpart("foolbox:FGM", eps)],
        "l1": [Counterpart("foolbox:L1FastGradientAttack", eps)],
    }[p["norm"]]


def _walk(
    in_foolbox: Mapping[str, str], in_torchattacks: Mapping[str, str], same: Mapping[str, tuple[str, str]]
) -> Callable[[Mapping[str, Any]], list[Counterpart]]:
    """Return the rule of an attack that takes steps of one length; ``same`` names further fields in both libraries."""

    def rule(p: Mapping[str, Any]) -> list[Counterpart]:
        shared = {"eps": p["eps"], "steps": p["steps"]}
        found = []
        if p["norm"] in in_foolbox:
            further = {there: p[here] for here, (there, _) in same.items()}
            fields = shared | {"rel_stepsize": p["relative_step_size"]} | further
            found.append(Counterpart(f"foolbox:{in_foolbox[p['norm']]}", fields))
        if p["norm"] in in_torchattacks:
            further = {there: p[here] for here, (_, there) in same.items()}
            fields = shared | {"alpha": p["relative_step_size"] * p["eps"]} | further
            found.append(Counterpart(f"torchattacks:{in_torchattacks[p['norm']]}", fields))
        return found

    return rule


def _deepfool(p: Mapping[str, Any]) -> list[Counterpart]:
    name = {"linf": "LinfDeepFoolAttack", "l2": "L2DeepFoolAttack"}.get(p.get("norm", "l2"))
    fields = {key: p[key] for key in ("steps", "candidates", "overshoot")}
    return [Counterpart(f"foolbox:{name}", fields)] if name else []


def _cw(p: Mapping[str, Any]) -> list[Counterpart]:
    same = ("binary_search_steps", "steps", "confidence", "initial_const", "abort_early")
    fields = {key: p[key] for key in same}
    return [Counterpart("foolbox:L2CarliniWagnerAttack", fields | {"stepsize": p["lr"]})]


def _ddn(p: Mapping[str, Any]) -> list[Counterpart]:
    if p.get("levels") is not None:
        return []
    fields = {"steps": p["steps"], "gamma": p["gamma"], "init_epsilon": p["init_norm"]}
    return [Counterpart("foolbox:DDNAttack", fields)]


def _fmn(p: Mapping[str, Any]) -> list[Counterpart]:
    name = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack"}.get(p.get("norm", "l2"))
    fields = {"steps": p["steps"], "max_stepsize": p["step_size"], "gamma": p["gamma"]}
    return [Counterpart(f"foolbox:{name}", fields)] if name else []


def _of_autoattack(part: str, *same: str) -> Callable[[Mapping[str, Any]], list[Counterpart]]:
    def rule(p: Mapping[str, Any]) -> list[Counterpart]:
        fields = {("n_restarts" if key == "restarts" else key): p[key] for key in same if key in p}
        return [Counterpart(f"pyautoattack:{part}", _ball(p) | fields)]

    return rule


def _auto_attack(p: Mapping[str, Any]) -> list[Counterpart]:
    several = 5 if p["version"] == "plus" or p["norm"] == "l1" else 1
    if p["version"] not in _pyautoattack.ENSEMBLES or p["targets"] != 9 or p["restarts"] != several:
        return []
    fields = {"steps": p["steps"], "queries": p["queries"]}
    return [Counterpart(f"pyautoattack:{p['version']}", _ball(p) | fields)]


_SAME: dict[str, Callable[[Mapping[str, Any]], list[Counterpart]]] = {
    "fgsm": _fgsm,
    "bim": _walk(
        {"linf": "LinfBasicIterativeAttack", "l2": "L2BasicIterativeAttack", "l1": "L1BasicIterativeAttack"},
        {"linf": "BIM"},
        {},
    ),
    "mim": _walk(
        {"linf": "MIFGSM", "l2": "L2MomentumIterativeFastGradientMethod"},
        {"linf": "MIFGSM"},
        {"momentum": ("momentum", "decay")},
    ),
    "pgd": _walk(
        {"linf": "PGD", "l2": "L2PGD", "l1": "L1PGD"},
        {"linf": "PGD", "l2": "PGDL2"},
        {"restarts": ("restarts", "restarts")},
    ),
    "deepfool": _deepfool,
    "cw": _cw,
    "ddn": _ddn,
    "fmn": _fmn,
    "apgd_ce": _of_autoattack("apgd-ce", "steps", "restarts"),
    "apgd_dlr": _of_autoattack("apgd-dlr", "steps", "restarts"),
    "apgd_t": _of_autoattack("apgd-t", "steps", "restarts", "targets"),
    "fab": _of_autoattack("fab", "steps", "restarts"),
    "fab_t": _of_autoattack("fab-t", "steps", "restarts", "targets"),
    "square": _of_autoattack("square", "queries", "restarts"),
    "auto_attack": _auto_attack,
}
