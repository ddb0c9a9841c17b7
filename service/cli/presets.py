"""`tandem presets`."""

from itertools import groupby

import typer

from service.cli import console


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(presets)


def presets() -> None:
    """List the experiments that have a name, folder by folder."""
    from configs.catalog import load_preset, preset_names

    shown = console.table("preset", "what it is", folding=("what it is",))
    for _folder, names in groupby(preset_names(), key=lambda name: name.rpartition("/")[0]):
        for name in names:
            shown.add_row(name, load_preset(name).summary)
        shown.add_section()
    console.output().print(shown)
