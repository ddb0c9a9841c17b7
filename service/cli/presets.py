"""`tandem presets`: list the presets."""

from itertools import groupby

import typer

from service.cli import console


def register(app: typer.Typer) -> None:
    """Add the command `tandem presets`."""
    app.command()(presets)


def presets() -> None:
    """List the presets, grouped by folder."""
    from configs.catalog import load_preset, preset_names

    table = console.create_table("preset", "description", folding=("description",))
    for _folder, names in groupby(preset_names(), key=lambda name: name.rpartition("/")[0]):
        for name in names:
            table.add_row(name, load_preset(name).summary)
        table.add_section()
    console.output().print(table)
