"""`tandem data`: make, import and register datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, load_stack_config, open_client

if TYPE_CHECKING:
    from collections.abc import Sequence

_app = typer.Typer(help="Images to learn from.", no_args_is_help=True)
_PASSED_THROUGH = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
_HELP = {"--help", "-h"}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(_app, name="data")


@_app.command(context_settings=_PASSED_THROUGH)
def digits(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What runs call it.")] = "digits",
) -> None:
    """Make the digits set; other options go to `tandem-worker data digits`."""
    make_dataset("digits", name=name, options=context.args)


@_app.command("import-voc", context_settings=_PASSED_THROUGH)
def import_voc(
    context: typer.Context, name: Annotated[str, typer.Option(help="What runs call it.")] = ""
) -> None:
    """Import Pascal VOC; other options go to `tandem-worker data import-voc`."""
    make_dataset("import-voc", name=name, options=context.args)


@_app.command("import-coco", context_settings=_PASSED_THROUGH)
def import_coco(
    context: typer.Context, name: Annotated[str, typer.Option(help="What runs call it.")] = ""
) -> None:
    """Import COCO; other options go to `tandem-worker data import-coco`."""
    make_dataset("import-coco", name=name, options=context.args)


@_app.command("add")
def add(
    folder: Annotated[Path, typer.Argument(help="A folder with a dataset.json.", exists=True)],
    name: Annotated[str | None, typer.Option(help="What runs call it.")] = None,
    replace: Annotated[bool, typer.Option(help="Take the place of one with this name.")] = False,
) -> None:
    """Register a dataset that is on disk."""
    register_dataset(folder.resolve(), name=name, replace=replace)


@_app.command("list")
def list_datasets() -> None:
    """List the datasets that runs can name."""
    with open_client() as client:
        found = client.datasets()
    shown = console.table("name", "train", "val", "classes", "folder", folding=("folder",))
    for dataset in found:
        manifest = dataset.manifest
        shown.add_row(
            dataset.name,
            f"{manifest.train.num_images} images",
            f"{manifest.val.num_images} images",
            str(len(manifest.classes)),
            str(dataset.root),
        )
    console.output().print(shown)


def make_dataset(kind: str, *, name: str, options: "Sequence[str]") -> Path:
    """Lets a worker write a dataset under the home, then registers it if the service is up."""
    import subprocess

    worker = str(load_stack_config().bin / "tandem-worker")
    if _HELP & set(options):
        raise typer.Exit(subprocess.run([worker, "data", kind, "--help"], check=False).returncode)
    if not name:
        raise CliError(ErrorMessage("The dataset needs a name.", advice=("Give it with --name.",)))
    folder = load_settings().datasets_dir / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [worker, "data", kind, *options, "--out", str(folder), "--name", name]
    if subprocess.run(command, check=False).returncode != 0:
        raise CliError(
            ErrorMessage(
                f"{folder} was not made.",
                advice=("The lines above say why; nothing was registered.",),
            )
        )
    _register_if_up(folder, name)
    return folder


def register_dataset(folder: Path, *, name: str | None, replace: bool) -> None:
    """Tells the service where a dataset is."""
    with open_client() as client:
        dataset = client.register_dataset(folder, name=name, replace=replace)
    console.output().print(
        f"Dataset [bold]{dataset.name}[/] is registered; runs say data.dataset.name={dataset.name}"
    )


def _register_if_up(folder: Path, name: str) -> None:
    from service.client import ServiceUnreachable

    try:
        register_dataset(folder, name=name, replace=True)
    except ServiceUnreachable:
        console.output().print(f"After `tandem up`, register it with: tandem data add {folder}")
