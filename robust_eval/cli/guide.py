"""``robust-eval guide``: the pages of the package's guide, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["guide", "pages"]


def guide(
    topic: Annotated[
        str | None, typer.Argument(help="A topic of the list, e.g. trust. Default: list them.")
    ] = None,
) -> int:
    """List the topics of the guide, or show the page of one."""
    from robust_eval.cli._console import open_console, say
    from robust_eval.errors import UnknownNameError

    found, console = pages(), open_console()
    if topic is None:
        width = max(map(len, found))
        for name, page in found.items():
            say(console, f"{name:{width}}  {_title(page)}")
        return 0
    # add-a-method, add_a_method and "add a method" are one topic
    name = " ".join(topic.lower().replace("-", " ").replace("_", " ").split())
    if name not in found:
        raise UnknownNameError("topic", topic, found)
    text = found[name].read_text(encoding="utf-8")
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(text))
    else:
        print(text, end="")
    return 0


def pages() -> dict[str, Path]:
    """Return the file of each topic, sorted by topic."""
    folder = Path(__file__).parent.parent / "guide"
    return {path.stem.replace("_", " "): path for path in sorted(folder.glob("*.md"))}


def _title(page: Path) -> str:
    """Return what the page is about: its heading."""
    with page.open(encoding="utf-8") as file:
        return file.readline().lstrip("#").strip()
