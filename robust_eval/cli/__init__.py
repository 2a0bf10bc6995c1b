"""The command line: one thin file per command, and the one place that sees all packages.

``main`` turns an error meant for the user into lines on stderr and exit code 2 (1 where a file could not be written);
anything else keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer

from robust_eval.cli._help import PLUGINS, epilog
from robust_eval.cli._manners import with_manners
from robust_eval.cli.analyze import analyze
from robust_eval.cli.corrupt import corrupt
from robust_eval.cli.diff import diff
from robust_eval.cli.doctor import doctor
from robust_eval.cli.evaluate import evaluate
from robust_eval.cli.gate import gate
from robust_eval.cli.guide import guide
from robust_eval.cli.list import list_methods
from robust_eval.cli.power import power
from robust_eval.cli.report import report
from robust_eval.cli.run import run
from robust_eval.cli.status import status
from robust_eval.cli.train import train
from robust_eval.cli.verify import verify
from robust_eval.cli.work import work
from robust_eval.printable import printable

__all__ = ["app", "main"]

app = typer.Typer(
    help="Measure how robust an image classifier is, and what bought that robustness.",
    epilog=PLUGINS,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., int]] = {
    "run": run,
    "work": work,
    "status": status,
    "evaluate": evaluate,
    "analyze": analyze,
    "doctor": doctor,
    "train": train,
    "corrupt": corrupt,
    "report": report,
    "verify": verify,
    "gate": gate,
    "diff": diff,
    "power": power,
    "list": list_methods,
    "guide": guide,
}
for _name, _command in _COMMANDS.items():
    _works = _name not in ("list", "guide", "status")
    app.command(name=_name, epilog=epilog(_name))(with_manners(_command) if _works else _command)


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        print(f"robust-eval {version('robust-eval')}")
        raise typer.Exit
    return bool(asked)


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# The shell's word for Ctrl-C, which typer may have turned into an exit code already.
_INTERRUPTED = 130
# and for SIGTERM.
_TERMINATED = 143
# and for SIGPIPE, as where `head` has read enough.
_UNREAD = 141
# Newer versions of typer carry their own click: these are the classes that this one raises.
_NoArguments = "NoArgsIsHelpError"
_ClickException: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def main() -> None:
    """Run the command line and leave with its exit code."""
    from robust_eval.errors import RobustEvalError
    from robust_eval.files import is_storage_error
    from robust_eval.processors import be_considerate

    be_considerate()
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Printable("%(message)s"))
    try:
        _refuse_shadows()
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a pipe that was closed is noticed here, and not when Python ends
    except RobustEvalError as error:
        code = _refused(str(error), error.exit_code)
    except typer.Exit as error:
        code = error.exit_code
    except _ClickException as error:
        if type(error).__name__ == _NoArguments:  # its message is the help
            print(error.format_message())
            code = 0
        else:
            code = _refused(" ".join(error.format_message().split()), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as error:
        if isinstance(
            error.__context__, BrokenPipeError
        ):  # typer's answer to a closed pipe, with an exit code of ours
            sys.exit(_unread())
        if _raised_by_typer(error.__traceback__):  # which has answered a shell that asks for completions
            raise
        # of a user's module or model: an end by accident must not look like a good one
        code = _refused(
            f"a module or a model ended the program: SystemExit({error.code!r}) was raised in it", 1
        )
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(_unread())
        if not is_storage_error(error):
            raise
        code = _refused(
            f"{error.filename or 'the disk'}: {error.strerror or error}; what is finished is kept", 1
        )
    if code == _INTERRUPTED:
        code = _TERMINATED if _Terminated.asked else code
        print("stopped: what is finished is kept, and the same command goes on from there", file=sys.stderr)
    sys.exit(code)


def _unread() -> int:
    """Let what is left for a closed pipe go nowhere, also when Python ends; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _UNREAD


class _Printable(logging.Formatter):
    """Leaves nothing in a line that a terminal would act on."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


class _Terminated(KeyboardInterrupt):
    """The process was asked to end, as batch systems do: it goes the way of Ctrl-C, so that nothing is half-written."""

    asked = False
    """typer turns the interrupt into an exit code of its own."""


def _terminate(*_: object) -> NoReturn:
    _Terminated.asked = True
    raise _Terminated


def _raised_by_typer(trace: TracebackType | None) -> bool:
    """Whether the innermost frame of a traceback is of typer, which carries its own click."""
    module = ""
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return module.partition(".")[0] in ("typer", "click")


def _refused(message: str, code: int) -> int:
    """Print each line of an error to stderr and return the exit code."""
    for line in message.split("\n"):
        print(f"error: {printable(line)}", file=sys.stderr)
    return code


def _refuse_shadows() -> None:
    """Raise when a folder of the user's hides one of our packages, whose names are common words.

    The packages are looked for, not imported: none of the user's code runs.
    """
    import robust_eval
    from robust_eval.errors import ConfigError

    home = Path(robust_eval.__file__).resolve().parent.parent
    for name in ("defenses", "trainers", "reports"):
        spec = find_spec(name)
        if spec is None:
            raise ConfigError(
                f"package {name!r}: expected ours at {home / name}, got none; install robust-eval again"
            )
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        found = [Path(place).resolve() for place in places]
        if home / name not in {*found, *(place.parent for place in found)}:
            raise ConfigError(
                f"package {name!r}: expected ours at {home / name}, got {found[0]}; "
                "rename that folder, or take it off PYTHONPATH"
            )
