"""The command line: one thin file per command, and the one place that sees all packages.

``main`` turns an error meant for the user into lines on stderr and exit code 2; anything else keeps its traceback.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import typer

from robust_eval.cli.evaluate import evaluate
from robust_eval.cli.list import list_methods
from robust_eval.cli.report import report
from robust_eval.cli.run import run
from robust_eval.cli.train import train

__all__ = ["app", "main"]

app = typer.Typer(
    help="Measure how robust an image classifier is, and what bought that robustness.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)
app.command()(run)
app.command()(evaluate)
app.command()(train)
app.command()(report)
app.command(name="list")(list_methods)


def main() -> None:
    """Run the command line and leave with its exit code."""
    import click

    from robust_eval.errors import RobustEvalError

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        _refuse_shadows()
        code = app(standalone_mode=False)
    except RobustEvalError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        code = 2
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        print("stopped: finished cells are kept, and the same command goes on from there", file=sys.stderr)
        code = 130
    sys.exit(code)


def _refuse_shadows() -> None:
    """Raise when a folder of the user's hides one of our packages, whose names are common words."""
    import robust_eval
    from robust_eval.errors import ConfigError

    home = Path(robust_eval.__file__).parent.parent
    for name in ("defenses", "trainers", "reports"):
        module = __import__(name)
        found = Path(module.__file__ or next(iter(module.__path__)))
        expected = home / name
        if found.parent != expected and found != expected:
            raise ConfigError(
                f"package {name!r}: expected ours at {expected}, got {found}; "
                "rename that folder, or start the command from another one"
            )
