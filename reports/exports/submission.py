"""The text of a submission to RobustBench, after the templates of its issues: what is not known is left to fill in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.exports.model_info import Claim
from reports.exports.words import one_line

__all__ = ["submission"]

_ZOO = (
    "# Model Zoo",
    "",
    "- [ ] I want to add my models to the Model Zoo (check if true)",
    "- [ ] I use an architecture that is **not** included among those of the Model Zoo (check if true)",
    "- [ ] I agree to release my model(s) under MIT license (check if true) **OR**",
    "- [ ] I want my models to be released under a custom license, located here:",
)
_EXTERNAL = (
    "# Adversarial images",
    "",
    "This run kept no adversarial images: measured with `--save-examples`, they lie beside this text. An external",
    "evaluation of a model of the Zoo needs them as a `.pt` tensor of the size of its test set, in its order. With",
    "`x_adv` from an attack in Python (the README's section on it) for all of those images, `x` the clean ones:",
    "",
    "```python",
    "from pathlib import Path",
    "from reports.exports.adversarials import save_adversarials",
    "",
    'save_adversarials(Path("adversarials.pt"), x_adv, of=x)',
    "```",
)
_KEPT = (
    "# Adversarial images",
    "",
    "An external evaluation of a model of the Zoo hands them in as a tensor in the order of its test set, which",
    "`torch.load` reads with `weights_only=True`: image by image that of the first attack that fooled the model.",
    "",
)


def submission(claims: Sequence[Claim]) -> str:
    """Return the text, in which nobody's paper is named."""
    lines = [
        "<!-- For https://github.com/RobustBench/robustbench/issues/new/choose; what is empty is yours to fill in. -->",
        "",
        "**Title**: [New Model] <NameYearFirstWordOfTitle>",
        "",
        "# Paper Information",
        "",
        "- **Paper Title**:",
        "- **Paper URL**:",
        "- **Paper authors**:",
        "",
        "# Leaderboard Claim(s)",
    ]
    for i, claim in enumerate(claims, start=1):
        lines += ["", f"## Model {i}: {one_line(claim.model)}", "", *_claim(claim)]
    kept = [claim for claim in claims if claim.adversarials is not None]
    files = [
        f"- {one_line(claim.model)}, {claim.board}: `adversarials/{claim.place('.pt')}`" for claim in kept
    ]
    return "\n".join([*lines, "", *_ZOO, "", *([*_KEPT, *files] if kept else _EXTERNAL), ""])


def _claim(claim: Claim) -> Iterator[str]:
    info = claim.info
    extra = {None: "(true or false: not known here)", True: "true", False: "false"}[info.additional_data]
    robust = info.corruptions_acc if claim.board == "corruptions" else info.autoattack_acc
    method = f"robust-eval: {claim.method}"
    if robust is None:
        method += "; the number is not the board's" if info.reported is not None else ""
    board = "Common Corruptions" if claim.board == "corruptions" else claim.board
    yield f"- **Architecture**: {one_line(info.architecture)}"
    yield f"- **Dataset**: {info.dataset or 'none of the boards'}"
    yield f"- **Threat Model**: {board}"
    yield f"- **eps**: {'N/A' if claim.board == 'corruptions' else info.eps or ''}"
    yield f"- **Clean accuracy**: {_shown(info.clean_acc)}"
    yield f"- **Robust accuracy**: {_shown(robust if robust is not None else info.reported)}"
    yield f"- **Additional data**: {extra}"
    yield f"- **Evaluation method**: {method}"
    yield "- **Checkpoint and code**:"
    if info.footnote:
        yield f"- **Note**: {one_line(info.footnote)}"
    yield ""
    if claim.lacking:
        yield "Not to be submitted yet:"
        yield ""
        yield from (f"- {item}" for item in claim.lacking)
    else:
        yield "It meets the board's conditions: images, radius and attack."


def _shown(percent: str | None) -> str:
    return "not measured" if percent is None else f"{percent}%"
