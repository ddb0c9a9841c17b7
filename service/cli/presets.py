"""`tandem presets`: list the presets."""

from itertools import groupby

from service.cli import console


def presets(as_json: console.AsJson = False) -> None:
    """List the presets, grouped by folder."""
    from configs.catalog import load_preset, preset_names

    summaries = {name: load_preset(name).summary for name in preset_names()}
    if as_json:
        console.print_json([{"name": key, "summary": text} for key, text in summaries.items()])
        return
    table = console.create_table("preset", "description", folding=("description",))
    for _folder, names in groupby(summaries, key=lambda name: name.rpartition("/")[0]):
        for name in names:
            table.add_row(name, summaries[name])
        table.add_section()
    console.output().print(table)
