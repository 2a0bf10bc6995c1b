"""Which exports there are, and what a report writes of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reports.evidence import EVIDENCE, evidence
from reports.exports.card import card_json, card_markdown, card_of
from reports.exports.huggingface import huggingface
from reports.exports.mlflow import Tracked, require_mlflow, tracked
from reports.exports.mlflow import log as log_to_mlflow
from reports.exports.robustbench import robustbench
from reports.exports.runs import Folders
from reports.exports.signature import SIGNATURE, signature
from reports.section import Source
from robust_eval.errors import ConfigError, DataError, near

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["EXPORTS", "Exported", "clear", "exported", "log", "require_exports", "require_own"]

EXPORTS = ("card", "robustbench", "huggingface", "mlflow")
"""What can be asked for; the card is written anyway."""
FOLDER = "exports"
"""Of a report, in which each format has a folder."""
OURS = ("robustbench", "huggingface")
"""Folders that are the report's own: what it does not write is not in them."""
_SUFFIXES = {".json", ".md", ".yaml"}


class Exported(NamedTuple):
    """What is handed on of a report."""

    files: dict[str, str | bytes]
    """Below the report's folder."""
    told: tuple[str, ...]
    """What a user has to know, one line each."""
    runs: tuple[Tracked, ...]
    """For MLflow."""
    experiment: str


def require_exports(names: Collection[str]) -> None:
    """Raise ``ConfigError`` for an export that there is not, or whose library is missing."""
    for name in names:
        if name not in EXPORTS:
            raise ConfigError(
                f"--export {name!r}: no such export{near(name, EXPORTS)}; there are {', '.join(EXPORTS)}"
            )
    if "mlflow" in names:
        require_mlflow()


def exported(
    names: Collection[str],
    source: Source,
    folders: Sequence[Path],
    *,
    with_evidence: bool = False,
    key: Ed25519PrivateKey | None = None,
) -> Exported:
    """Return the card, signed where there is a key, and what else was asked for."""
    runs = Folders(folders)
    card = card_of(source, runs)
    files: dict[str, str | bytes] = {"card.json": card_json(card), "card.md": card_markdown(source, card)}
    if key is not None:
        files[SIGNATURE] = signature(key, card_json(card).encode("utf-8"))
    if with_evidence:
        files |= evidence(source, card)
    told: tuple[str, ...] = ()
    for name in OURS:
        if name in names:
            made, said = robustbench(source, runs) if name == "robustbench" else huggingface(card)
            files |= {f"{FOLDER}/{name}/{place}": content for place, content in made.items()}
            told += said
    experiment = "robust-eval: " + ", ".join(run.name for run in runs.runs)
    return Exported(files, told, tracked(source, card) if "mlflow" in names else (), experiment[:250])


def clear(out: Path, files: Collection[str]) -> None:
    """Remove what an earlier report exported and this one does not."""
    for place in {*EVIDENCE, SIGNATURE} - set(files):  # a signature of another card would be a wrong one
        (out / place).unlink(missing_ok=True)
    for name in OURS:
        folder = out / FOLDER / name
        if not folder.is_dir():
            continue
        for path in sorted(folder.rglob("*"), reverse=True):
            if _written(path.relative_to(folder)) and path.relative_to(out).as_posix() not in files:
                path.unlink()
            elif path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()


def _written(path: Path) -> bool:
    """Whether a file within an export's folder is of a kind that a report writes: another ``.pt`` is the user's."""
    return path.suffix in _SUFFIXES or (path.parts[0] == "adversarials" and path.suffix == ".pt")


def log(made: Exported, out: Path) -> tuple[str, ...]:
    """Log what MLflow was asked to keep; return what to tell."""
    return log_to_mlflow(made.runs, made.experiment, out / FOLDER / "mlruns") if made.runs else ()


def require_own(out: Path) -> None:
    """Raise ``DataError`` where an export's folder is a link, through which files of others would be changed."""
    for place in (out / FOLDER, *(out / FOLDER / name for name in (*OURS, "mlruns"))):
        if place.is_symlink():
            raise DataError(f"{place}: expected a folder of the report, got a link; remove it")
