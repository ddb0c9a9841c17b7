"""`tandem presets`."""

import typer

from service.cli import console


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(presets)


def presets() -> None:
    """List the experiments that have a name."""
    from configs.catalog import load_preset, preset_names

    shown = console.table("preset", "what it is", folding=("what it is",))
    for name in preset_names():
        shown.add_row(name, load_preset(name).summary)
    console.output().print(shown)
