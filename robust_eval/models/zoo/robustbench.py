"""``robustbench:NAME``: a model of RobustBench's zoo, from weights that lie here.

``robustbench:NAME(threat_model='L2', dataset='cifar100')``; Linf and cifar10 if left out. The checkpoint is the file of
its weights, or a folder with ``DATASET/THREAT/NAME.pt`` in it, as RobustBench lays its own out. The library makes and
loads the network, whose normalisation is inside; it is told to run no code from the file.

Its release of the package index (1.1.1) imports ``autoattack``, which it gets as ``pyautoattack``, and
``pkg_resources``, which setuptools no longer has; torchattacks ships a folder of its name. All that is coped with here
alone, while it is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from robust_eval.errors import THEIRS, CheckpointError, ConfigError, near
from robust_eval.identity import existing, file_sha256
from robust_eval.models._content import content_of, one_line
from robust_eval.models.checkpoint import state_sha256
from robust_eval.models.zoo._entry import Brought, Wanted, behind, package
from robust_eval.models.zoo._weights import require_weights
from robust_eval.paths import is_folder

FETCHED = Path("models")
"""Where RobustBench puts what it fetches, in the current folder, unless told otherwise."""


@behind(
    "robustbench",
    about="NAME (a model of its zoo; threat_model='L2' and dataset='cifar100' among others; extra zoo)",
)
def _bring(wanted: Wanted) -> Brought:
    fields = {"threat_model": "Linf", "dataset": "cifar10", **wanted.arguments}
    if unknown := sorted(set(fields) - {"threat_model", "dataset"}):
        raise ConfigError(f"{wanted.spec}: expected threat_model and dataset, got {', '.join(unknown)}")
    require_weights(wanted)
    library = _library(wanted)
    files = _files(library, wanted, fields)
    if wanted.checkpoint is None:
        network = _loaded(library, wanted, fields, FETCHED)
        return Brought(network, {"robustbench": wanted.name, **fields}, weights_sha256=state_sha256(network))
    sources = _sources(wanted, files)
    for source in sources:
        content_of(source)  # a file that needs code, or is none, is told as any other is
    with tempfile.TemporaryDirectory() as place:
        for file, source in zip(files, sources, strict=True):
            target = Path(place) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.resolve())
        network = _loaded(library, wanted, fields, Path(place))
    sha256 = file_sha256(sources[0]) if len(sources) == 1 else state_sha256(network)
    return Brought(network, {"robustbench": wanted.name, **fields}, weights_sha256=sha256)


def _files(library: Any, wanted: Wanted, fields: dict[str, Any]) -> list[Path]:
    """Return the files of a model's weights, below the folder that all of them lie in."""
    try:
        dataset = library.model_zoo.enums.BenchmarkDataset(fields["dataset"])
        threat = library.model_zoo.enums.ThreatModel(fields["threat_model"])
        models = library.model_zoo.models.model_dicts[dataset][threat]
    except (ValueError, KeyError):
        every = library.model_zoo.models.model_dicts
        known = [f"{data.value}/{threat.value}" for data, of in every.items() for threat in of]
        raise ConfigError(
            f"{wanted.spec}: expected a dataset and a threat model among {', '.join(known)}, got "
            f"{fields['dataset']}/{fields['threat_model']}"
        ) from None
    if wanted.name not in models:
        raise ConfigError(
            f"{wanted.spec}: robustbench has no such model for {dataset.value}/{threat.value}"
            f"{near(wanted.name, models)}"
        )
    folder = Path(dataset.value) / threat.value.replace("_3d", "")
    parts = models[wanted.name].get("gdrive_id")
    if isinstance(parts, list):
        return [folder / f"{wanted.name}.pt_m{i}.pt" for i in range(len(parts))]
    if parts is None and wanted.checkpoint is not None:
        raise ConfigError(f"{wanted.spec}: is loaded by timm; name it as timm:NAME with its checkpoint")
    return [folder / f"{wanted.name}.pt"]


def _sources(wanted: Wanted, files: list[Path]) -> list[Path]:
    """Return where the files of the weights lie."""
    given = wanted.checkpoint
    assert given is not None
    if is_folder(given):
        return [existing(given / file) for file in files]
    if len(files) > 1:
        raise CheckpointError(
            f"{wanted.spec}: has {len(files)} files of weights; give the folder that {files[0].parent} lies in"
        )
    return [existing(given)]


def _loaded(library: Any, wanted: Wanted, fields: dict[str, Any], folder: Path) -> nn.Module:
    try:
        with _no_code_from_files(), _put_up_with(), redirect_stdout(io.StringIO()):
            made: nn.Module = library.utils.load_model(wanted.name, model_dir=folder, **fields)
    except THEIRS as error:
        raise CheckpointError(f"{wanted.spec}: robustbench cannot load it ({one_line(error)})") from None
    return made


def _library(wanted: Wanted) -> Any:
    """Return the package with the modules that are needed; raises ``ConfigError`` where it is not installed."""
    try:
        importlib.metadata.version("robustbench")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"{wanted.spec}: expected the package robustbench, which is not installed; pip install 'robust-eval[zoo]'"
        ) from None
    with _put_up_with(), _stand_ins():
        library = package("robustbench", extra="zoo", spec=wanted.spec)
        if not hasattr(library, "benchmark"):
            raise ConfigError(
                f"{wanted.spec}: expected RobustBench, got the folder of that name which torchattacks ships "
                f"({library.__file__}); pip install --force-reinstall --no-deps robustbench"
            )
        for part in ("model_zoo.models", "model_zoo.enums", "utils"):
            package(f"robustbench.{part}", extra="zoo", spec=wanted.spec)
    return library


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Give the library the two modules that it imports by names which are not there."""
    added = []
    if importlib.util.find_spec("autoattack") is None and importlib.util.find_spec("pyautoattack"):
        for part in ("", ".state"):
            sys.modules[f"autoattack{part}"] = importlib.import_module(f"pyautoattack{part}")
            added.append(f"autoattack{part}")
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        resources = ModuleType("pkg_resources")
        resources.resource_filename = _beside  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = resources
        added.append("pkg_resources")
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


def _beside(module: str, path: str) -> str:
    return str(Path(str(sys.modules[module].__file__)).parent / path)


@contextmanager
def _no_code_from_files() -> Iterator[None]:
    """Have torch run no code from the files it loads, whatever its version does by default."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


@contextmanager
def _put_up_with() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
