"""What ``--help`` ends with: examples, and what a command's exit code means."""

from __future__ import annotations

__all__ = ["EXAMPLES", "PLUGINS", "epilog"]

PLUGINS = "A method of your own: `robust-eval guide add-a-method`. Of ours: .github/CONTRIBUTING.md in the repository."
_MEASURED = {
    0: "every planned cell has a record",
    1: "a cell failed or was not measured, a record was left out, or a file could not be written",
}
_OR_JUDGED = {
    **_MEASURED,
    3: "with --gate, whose exit code it is then (`robust-eval gate -h`): a rule cannot be judged",
}
_WRITTEN = {0: "done", 1: "a file could not be written"}
_JUDGED = {
    0: "every rule passes, though some may warn",
    1: "a rule fails, or a file could not be written",
    3: "no rule fails, and one cannot be judged: checks, missing numbers, other images, too few images",
}
_CODES: dict[str, dict[int, str]] = {
    "run": _OR_JUDGED,
    "work": {
        0: "every planned cell has a record",
        1: "a cell failed, is not measured, or a file could not be written",
    },
    "status": {0: "told, however far the run is"},
    "evaluate": _OR_JUDGED,
    "analyze": _MEASURED,
    "doctor": {
        0: "no check failed, though some may warn",
        1: "a check failed or could not be made",
    },
    "train": _WRITTEN,
    "corrupt": _WRITTEN,
    "report": {0: "written, of all records", 1: "some records were left out, or a file could not be written"},
    "verify": {0: "signed by the holder of this key", 1: "not what was signed, or by another key"},
    "gate": _JUDGED,
    "diff": {0: "compared, whatever was found", 1: "a file could not be written"},
    "power": {0: "done"},
    "list": {0: "done"},
    "guide": {0: "done"},
}
_ALWAYS = {2: "wrong input, one line for each mistake", 130: "stopped by Ctrl-C (143: by SIGTERM)"}
EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "robust-eval run",
        "robust-eval run experiment.toml --dry-run",
        "robust-eval run runs/quickstart",
        "robust-eval run quickstart --workers 2",
        "robust-eval run experiment.toml --engine submitit --workers 8 --engine-option partition=gpu",
    ),
    "work": (
        "robust-eval work runs/mine",
        "robust-eval work /shared/runs/mine --device cuda --max-minutes 230",
    ),
    "status": ("robust-eval status runs/mine", "robust-eval status runs/mine --watch"),
    "evaluate": (
        "robust-eval evaluate model.pt --arch resnet18 --data test.npz --mean 0.5 --std 0.25",
        "robust-eval evaluate --arch net.py:build --data cifar10 --n 500 --attacks pgd,cw --eps 4/255",
        "robust-eval evaluate model.pt --data cifar10 --import my_attacks --attacks my_attack",
    ),
    "analyze": ("robust-eval analyze model.pt --arch resnet18 --data cifar10 --other svhn --resize",),
    "doctor": ("robust-eval doctor model.pt --arch resnet18 --data test.npz --eps 8/255",),
    "train": (
        "robust-eval train --regularizer mixup --arch preact_resnet18 --data cifar10 --epochs 30",
        "robust-eval train --regularizer erm --arch small_cnn --data digits --set recipe.lr=0.05",
    ),
    "corrupt": ("robust-eval corrupt cifar10 --out cifar10_c --corruptions fog,gaussian_noise --n 1000",),
    "report": (
        "robust-eval report runs/mine",
        "robust-eval report runs/a runs/b --out both --baseline erm",
        "robust-eval report runs/mine --evidence --sign sign.key",
    ),
    "verify": ("robust-eval verify runs/mine/report/card.json --key sign.pub",),
    "gate": (
        "robust-eval gate runs/mine --min 'pgd@8/255 >= 0.45' --min 'clean >= 90%'",
        "robust-eval gate runs/mine --baseline runs/last --max-drop 'worst_case@linf:8/255 0.01'",
        "robust-eval gate runs/mine --rules gate.toml --junit gate.xml --summary gate.md",
    ),
    "diff": (
        "robust-eval diff runs/last runs/mine",
        "robust-eval diff runs/last runs/mine --html diff.html",
        "robust-eval diff runs/last runs/mine --format json",
    ),
    "power": (
        "robust-eval power --n 500 --drop 2%",
        "robust-eval power --run runs/mine --baseline runs/last --drop 0.01",
    ),
    "list": ("robust-eval list attacks --long",),
    "guide": ("robust-eval guide trust",),
}


def epilog(command: str) -> str:
    """Return the end of a command's help; click breaks no lines behind its mark for paragraphs as they are."""
    codes = dict(sorted((_CODES[command] | _ALWAYS).items()))
    examples = "\n".join(f"  {line}" for line in EXAMPLES[command])
    meanings = "\n".join(f"  {code:<4} {meaning}" for code, meaning in codes.items())
    return f"\b\nExamples:\n{examples}\n\n\b\nExit codes:\n{meanings}"
