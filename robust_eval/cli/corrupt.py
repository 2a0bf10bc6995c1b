"""``robust-eval corrupt``: corrupted test images as files, in the layout of CIFAR-10-C."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from robust_eval.bounds import LAST_SEED, MOST
from robust_eval.cli._options import ClassOrder, Imports, Settings, Size, path_named

__all__ = ["corrupt"]


def corrupt(
    data: Annotated[str, typer.Argument(help="A named set, a .npz file or an image folder.")],
    out: Annotated[
        Path,
        typer.Option(
            parser=path_named,
            metavar="PATH",
            help="Folder for the files; what is whole in it already is left as it is.",
        ),
    ],
    corruptions: Annotated[
        str, typer.Option(help="Names, comma-separated; all are those that have severities.")
    ] = "all",
    n: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="How many test images. Default: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="Of the draws, as evaluate's.")] = 0,
    size: Size = None,
    class_order: ClassOrder = None,
    set_: Settings = None,
    import_: Imports = None,
) -> int:
    """Write corrupted test images at severities 1 to 5: TYPE.npy and labels.npy, which evaluate --corrupted reads.

    The layout is that of CIFAR-10-C, which holds all five severities. corruptions.json says how the files were made.
    Pixels are rounded to 8 bits, so accuracies on the files are near those on images corrupted anew, and not the same.
    Killed and called again, it goes on with the first type that is not whole.
    """
    from robust_eval.cli._console import open_console, say
    from robust_eval.cli._execute import run_folder
    from robust_eval.cli._options import as_class_order, import_methods
    from robust_eval.config.method_tables import MethodTables
    from robust_eval.config.problems import Problems
    from robust_eval.config.settings import apply_settings, settings, split_names
    from robust_eval.config.sources import opened
    from robust_eval.corruptions._written import NOTES, write
    from robust_eval.data.corrupted import known_types
    from robust_eval.errors import ConfigError

    import_methods(import_)
    known = known_types()
    every = "all" in [name.strip() for name in corruptions.split(",")]
    names = known if every else split_names("corruption", corruptions)
    tables: list[dict[str, Any]] = [{"name": name} for name in names]
    apply_settings(tables, settings(set_))
    problems = Problems("corrupt")
    parser = MethodTables(problems)
    made: dict[str, Any] = {}
    for i, table in enumerate(tables):
        if "severity" in table:
            problems.add(
                f"corruption {table['name']!r}: severity: expected none, since the files hold all five, "
                f"got {table['severity']!r}; leave it out"
            )
            continue
        severities = {"severity": [1, 2, 3, 4, 5]} if table["name"] in known else {}
        made[table["name"]] = parser.methods("corruption", {**table, **severities}, i)
        if made[table["name"]] and not severities:
            problems.add(
                f"corruption {table['name']!r}: expected one with severities, which the files hold five of; "
                f"known: {', '.join(known)}"
            )
    if not names:
        problems.lines.append(f"--corruptions: expected names or all, got none; known: {', '.join(known)}")
    if problems.lines:
        raise ConfigError(dict.fromkeys(problems.lines))  # one field is wrong five times
    source = opened(data, size=size, class_order=as_class_order(class_order))
    examples = source.test(n)
    folder = run_folder(out)
    console = open_console()
    width = max(map(len, names))
    was = {"missing": "", "there": "  (was there)", "damaged": "  (was damaged: written anew)"}
    for written in write(folder, made, source.name, examples, seed=seed):
        say(console, f"{written.type:{width}}  sha256 {written.sha256}{was[written.was]}")
    say(console, f"{len(examples)} images, described in {folder / NOTES}")
    command = ["robust-eval", "evaluate", "CHECKPOINT", "--data", data]
    for name, value in (("n", n), ("size", size), ("class-order", class_order)):
        command += [] if value is None else [f"--{name}", str(value)]
    command += ["--corrupted", str(folder)]
    say(console, f"next:    {shlex.join(command)}")
    return 0
