"""The program: its commands, and what an error, an interrupt or a warning becomes.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, NoReturn

import typer

from isthmus import __version__
from isthmus.cli import (
    classify,
    data,
    decode,
    denoise,
    doctor,
    encode,
    evaluate,
    explore,
    export,
    generate,
    interpolate,
    outliers,
    reconstruct,
    runs,
    search,
    shapes,
    study,
    sweep,
    train,
)
from isthmus.errors import FAILED, INTERRUPTED, TERMINATED, USAGE, IsthmusError, TrainedOnWarning

app = typer.Typer(
    name="isthmus",
    help="Learn compact representations of images, see what they kept, put them to use.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: half the time of a boxed one
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(study.study)
app.command()(train.train)
app.command()(sweep.sweep)
app.command()(evaluate.evaluate)
app.command()(denoise.denoise)
app.command()(classify.classify)
app.command()(encode.encode)
app.command()(decode.decode)
app.command()(reconstruct.reconstruct)
app.command()(search.search)
app.command()(outliers.outliers)
app.command()(interpolate.interpolate)
app.command()(generate.generate)
app.command()(export.export)
app.command()(explore.explore)
app.command()(shapes.shapes)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command()(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isthmus {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Learn compact representations of images, see what they kept, put them to use."""


def run() -> NoReturn:
    """Run the program and exit with its code; an expected failure is one message on stderr, without traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        try:
            app(prog_name="isthmus")
        finally:
            sys.stdout.flush()  # a full or closed stdout is met here, not when the interpreter ends
    except IsthmusError as error:
        _end(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns an interrupt into SystemExit(130).
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        word, code = ("terminated", TERMINATED) if _terminations else ("interrupted", INTERRUPTED)
        rest = "; finished runs are kept, the same command with --resume does the rest"
        _end(f"{word}{rest if sys.argv[1:2] in (['study'], ['train'], ['sweep']) else ''}", code)
    except BrokenPipeError:  # the reader of stdout has gone, as `| head` does
        _drop_stdout()
        sys.exit(FAILED)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EACCES) and error.filename:
            _end(f"error: {os.fsdecode(error.filename)}: {error.strerror}; name another file or folder.", USAGE)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        _drop_stdout()
        place = error.filename or "the output"
        _end(
            f"error: could not write {place}: {error.strerror}. Free some space, then run again with --resume.",
            FAILED,
        )
    sys.exit(0)


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that ending does not fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_terminations: list[int] = []  # SIGTERM ends a job as Ctrl-C does, but with an exit code of its own


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    _terminations.append(number)
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    if issubclass(category, TrainedOnWarning):
        print(f"warning: {message}", file=sys.stderr)


def _end(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)
