"""`tandem data`: create, import, register and list datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.console.help_pages import create_group
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, load_stack_config, open_client

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from service.api.schemas.registry import DatasetView, StatisticsView
    from service.cli.console.tables import OutputTable
    from service.client import TandemClient

data = create_group("Create, import, register and list datasets.")
_FORWARD_OPTIONS = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
_HELP = {"--help", "-h"}
_DRY_RUN = "--dry-run"


@data.command(context_settings=_FORWARD_OPTIONS)
def digits(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Its name in specs.")] = "digits",
) -> None:
    """Create a dataset of digits, with the options of a preset that names it, and with others.

    The options are those of `tandem-worker data digits`.
    """
    make_digits(name, options=context.args)


@data.command("import", context_settings=_FORWARD_OPTIONS)
def import_folder(
    context: typer.Context, name: Annotated[str, typer.Option(help="Its name in specs.")] = ""
) -> None:
    """Import a folder of any known layout; it and other options go to `tandem-worker data import`.

    COCO, Pascal VOC, YOLO and LabelMe are recognized.
    """
    make_dataset("import", name=name, options=context.args)


@data.command("import-voc", context_settings=_FORWARD_OPTIONS)
def import_voc(
    context: typer.Context, name: Annotated[str, typer.Option(help="Its name in specs.")] = ""
) -> None:
    """Import Pascal VOC; other options go to `tandem-worker data import-voc`."""
    make_dataset("import-voc", name=name, options=context.args)


@data.command("import-coco", context_settings=_FORWARD_OPTIONS)
def import_coco(
    context: typer.Context, name: Annotated[str, typer.Option(help="Its name in specs.")] = ""
) -> None:
    """Import COCO; other options go to `tandem-worker data import-coco`."""
    make_dataset("import-coco", name=name, options=context.args)


@data.command("import-yolo", context_settings=_FORWARD_OPTIONS)
def import_yolo(
    context: typer.Context, name: Annotated[str, typer.Option(help="Its name in specs.")] = ""
) -> None:
    """Import YOLO by its data.yaml; other options go to `tandem-worker data import-yolo`."""
    make_dataset("import-yolo", name=name, options=context.args)


@data.command("import-images", context_settings=_FORWARD_OPTIONS)
def import_images(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Its name in specs.")] = "",
    exclude_of: Annotated[
        list[str] | None,
        typer.Option(help="Dataset whose validation images are left out; repeatable."),
    ] = None,
) -> None:
    """Import images without labels; other options go to `tandem-worker data import-images`.

    A run names them in data.unlabelled; its teacher labels them.
    """
    excluded = [f"--exclude-of={_find_folder(dataset)}" for dataset in exclude_of or ()]
    make_dataset("import-images", name=name, options=[*context.args, *excluded])


def _find_folder(dataset: str) -> Path:
    """The folder of a dataset that is named, or given as its folder."""
    named = load_settings().datasets_dir / dataset
    return named if named.is_dir() else Path(dataset)


@data.command("add")
def add(
    folder: Annotated[Path, typer.Argument(help="A folder with a dataset.json.", exists=True)],
    name: Annotated[str | None, typer.Option(help="Its name in specs.")] = None,
    replace: Annotated[bool, typer.Option(help="Replace a dataset with the same name.")] = False,
) -> None:
    """Register a dataset folder."""
    register_dataset(folder.resolve(), name=name, replace=replace)


@data.command("list")
def list_datasets(as_json: console.AsJson = False) -> None:
    """List the registered datasets."""
    with open_client() as client:
        views = client.datasets()
    if as_json:
        console.print_json(views)
        return
    if not views:
        console.output().print("No datasets yet; `tandem data digits` creates one.")
        return
    console.output().print(_build_table(views))


@data.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(help="Its name in specs.")],
    sheet: Annotated[
        Path | None, typer.Option(help="File for the sample images; by default in its folder.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the sample images.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Show classes, object sizes, near duplicates, and sample images with their boxes.

    What an older import lacks is computed first.
    """
    with open_client() as client:
        dataset = client.dataset(name)
        picture = _find_contact_sheet(Path(dataset.root), sheet)
        view = _read_statistics(client, dataset, sheet=sheet, picture=picture)
    if as_json:
        console.print_json(view)
        return
    _print_statistics(view)
    out = console.output()
    if not picture.is_file():
        out.print(f"The sample images are on the workers' machine: {picture}", soft_wrap=True)
        return
    out.print(f"Sample images: {picture.resolve()}", soft_wrap=True)
    if open_:
        from service.cli.reports import open_page

        open_page(picture)


def _find_contact_sheet(root: Path, sheet: Path | None) -> Path:
    from configs.protocol.dataset_statistics import CONTACT_SHEET

    return sheet or root / CONTACT_SHEET


def _read_statistics(
    client: "TandemClient", dataset: "DatasetView", *, sheet: Path | None, picture: Path
) -> "StatisticsView":
    """The statistics; what is missing of them and of the picture is made where its folder is."""
    from service.client_transport import TandemApiError

    root = Path(dataset.root)
    if root.is_dir() and (sheet is not None or not picture.is_file()):
        _make_overview(root, sheet)
    try:
        return client.dataset_statistics(dataset.name)
    except TandemApiError as error:
        if error.code != "statistics_not_found" or not root.is_dir():
            raise
    _make_overview(root, sheet)
    return client.dataset_statistics(dataset.name)


def _make_overview(root: Path, sheet: Path | None) -> None:
    options = () if sheet is None else (f"--sheet={sheet}",)
    if _run_worker_data("show", str(root), "--quiet", *options).returncode:
        raise CliError(
            ErrorMessage(
                f"The dataset in {root} could not be read.",
                advice=("The output above shows the reason.",),
            )
        )


def _print_statistics(view: "StatisticsView") -> None:
    from service.cli.views.dataset_statistics import build_statistics_tables, describe_statistics

    out = console.output()
    for table in build_statistics_tables(view):
        out.print(table)
        out.print()
    for line in describe_statistics(view):
        out.print(line, markup=False)


def _build_table(views: "Sequence[DatasetView]") -> "OutputTable":
    from rich.markup import escape

    numbers = ("train images", "val images", "classes")
    table = console.create_table(
        *("name", *numbers, "folder"), folding=("name",), below=("folder",), numbers=numbers
    )
    for view in views:
        manifest = view.manifest
        table.add_row(
            view.name,
            str(manifest.train.num_images),
            str(manifest.val.num_images) if manifest.has_labels else "-",
            str(len(manifest.classes)) if manifest.has_labels else "no labels",
            escape(str(view.root)),
        )
    return table


def provide_tiny_digits() -> None:
    """Make and register the dataset of the preset quick/instant, unless it is registered.

    A new stack then has something to run: the preset, and the first example of the API. Whatever
    prevents it is printed, since the stack works without.
    """
    from configs.dataset_catalog import DIGITS_OPTIONS
    from service.client_transport import ServiceUnreachable, TandemApiError

    name = "digits-tiny"
    try:
        with open_client() as client:
            if any(dataset.name == name for dataset in client.datasets()):
                return
            folder = load_settings().datasets_dir / name
            if folder.exists() or _write_dataset(
                "digits", folder, options=DIGITS_OPTIONS[name], is_quiet=True
            ):
                client.register_dataset(folder, name=name)
                return
        problem = f"{folder} could not be written."
    except (ServiceUnreachable, TandemApiError) as error:
        problem = str(error).splitlines()[0]
    console.output().print(
        f"The preset quick/instant needs the dataset {name}, which is not registered: {problem} "
        f"Make it with `tandem data digits --name {name}`."
    )


def make_digits(name: str, *, options: "Sequence[str]" = ()) -> Path:
    """Create a dataset of digits; a name that presets use has default options."""
    from configs.dataset_catalog import DIGITS_OPTIONS

    return make_dataset("digits", name=name, options=(*DIGITS_OPTIONS.get(name, ()), *options))


def make_dataset(kind: str, *, name: str, options: "Sequence[str]") -> Path:
    """Run `tandem-worker data` to write a dataset; register it if the service is up."""
    folder = write_dataset_folder(kind, name=name, options=options)
    _register_if_up(folder, name)
    return folder


def write_dataset_folder(kind: str, *, name: str, options: "Sequence[str]") -> Path:
    """Run `tandem-worker data` to write a dataset, and return its folder."""
    if _HELP & set(options):
        raise typer.Exit(_run_worker_data(kind, "--help").returncode)
    if not name:
        raise CliError(ErrorMessage("The dataset needs a name.", advice=("Give it with --name.",)))
    folder = load_settings().datasets_dir / name
    if _DRY_RUN in options:
        output = ("--out", str(folder), "--name", name)
        raise typer.Exit(_run_worker_data(kind, *options, *output).returncode)
    if not _write_dataset(kind, folder, options=options):
        raise CliError(
            ErrorMessage(
                f"The dataset {folder} was not created.",
                advice=("The output above shows the reason; nothing was registered.",),
            )
        )
    return folder


def _write_dataset(
    kind: str, folder: Path, *, options: "Sequence[str]", is_quiet: bool = False
) -> bool:
    """Run `tandem-worker data` to write a dataset named as its folder; return its success."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = (*options, "--out", str(folder), "--name", folder.name)
    return _run_worker_data(kind, *options, is_quiet=is_quiet).returncode == 0


def _run_worker_data(
    *arguments: str, is_quiet: bool = False
) -> "subprocess.CompletedProcess[bytes]":
    import subprocess

    worker = str(load_stack_config().bin / "tandem-worker")
    return subprocess.run([worker, "data", *arguments], capture_output=is_quiet, check=False)


def register_dataset(folder: Path, *, name: str | None, replace: bool) -> None:
    """Register a dataset folder with the service."""
    with open_client() as client:
        dataset = client.register_dataset(folder, name=name, replace=replace)
    console.output().print(
        f"Dataset [bold]{dataset.name}[/] is registered; "
        f"use it with data.dataset.name={dataset.name}"
    )


def _register_if_up(folder: Path, name: str) -> None:
    from service.client_transport import ServiceUnreachable

    try:
        register_dataset(folder, name=name, replace=True)
    except ServiceUnreachable:
        console.output().print(f"After `tandem up`, register it with: tandem data add {folder}")
