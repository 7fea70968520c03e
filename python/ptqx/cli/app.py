"""The application: what every command has in common, and how mistakes end."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import typer
import typer.main

from ..errors import PtqxError

P = ParamSpec("P")
BAD_INPUT, INTERRUPTED = 2, 130
# The base of every mistake in the arguments themselves; typer exports only some of its children.
UsageMistake: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    help="Quantize CNNs in PyTorch to integers and run them on the CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for wrong input, 130 after Ctrl-C."""
    try:
        status = typer.main.get_command(app).main(arguments, prog_name="ptqx", standalone_mode=False)
    except UsageMistake as error:
        message = error.format_message()
        command = error.ctx.command_path if error.ctx else "ptqx"
        if message:
            say_error(f"{message} (see {command} --help)")
        return int(error.exit_code)
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Decorator: wrong input is one line and status 2, Ctrl-C one line and 130; PTQX_DEBUG=1 shows more."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            say_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (PtqxError, OSError) as error:
            if os.environ.get("PTQX_DEBUG") == "1":
                traceback.print_exc()
            say_error(str(error))
            raise typer.Exit(BAD_INPUT) from None

    run.__doc__ = paragraphs(command.__doc__)
    return run


def paragraphs(text: str | None) -> str:
    """Every paragraph on one line, which the terminal's width breaks.

    >>> paragraphs("One.\\n\\n    Two and\\n    three.")
    'One.\\n\\nTwo and three.'
    """
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def say_error(message: str) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
