"""Training and fine-tuning of float models."""

from __future__ import annotations

import typer
import typer.main

from .app import app, guarded


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
@guarded
def train(context: typer.Context) -> None:
    """Train a CNN on one of the data sets, or fine-tune a checkpoint."""
    from ..train import command

    trainer = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    trainer.command()(command.train)
    status = typer.main.get_command(trainer).main(context.args, prog_name="ptqx train", standalone_mode=False)
    if status:
        raise typer.Exit(status)
