"""What `tandem-worker profile` prints."""

from rich.console import Console
from rich.table import Table

from workers.probe.step_profile import StepProfile

_BAR_WIDTH = 30


def print_profile(profile: StepProfile) -> None:
    """Print a line for each part, with its share as a bar, and what loading a batch takes."""
    table = Table("part", box=None, pad_edge=False)
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for part in profile.parts:
        bar = "#" * round(_BAR_WIDTH * part.share)
        table.add_row(part.name, f"{part.ms:.1f}", f"{part.share:.1%}", bar)
    table.add_row("step", f"{profile.step_ms:.1f}", "", "")
    output = Console()
    output.print(table)
    output.print(
        f"Loading a batch takes one process {profile.load_ms:.1f} ms, beside the step. "
        f"A step calls {profile.operators:,} operators.",
        soft_wrap=True,
    )
