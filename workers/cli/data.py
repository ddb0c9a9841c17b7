"""`tandem-worker data`: create a dataset, or import one."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn

from configs.dataset_summary import list_image_sizes
from configs.protocol.dataset_statistics import CONTACT_SHEET, DatasetStatistics
from configs.spec.base import Sha256
from configs.spec.dataset import MANIFEST, DatasetManifest
from workers.cli.data_summary import print_statistics
from workers.cli.import_options import (
    ClassesOption,
    ImageImportSettings,
    ImportSettings,
    ImportTarget,
    NameOption,
    OutOption,
    RefreshOption,
    ReplaceOption,
    expand_options,
    split_names,
)
from workers.cli.import_output import describe_refusal, print_changes, print_problems
from workers.cli.terminal import exit_with_refusal, open_output, show_progress
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.data.digits import CLASSES, LICENSE, DigitsRecipe, draw_split
from workers.data.formats.coco import read_coco
from workers.data.formats.layouts import ParsedDataset
from workers.data.formats.parsed import check_classes, collect_labels
from workers.data.formats.voc import read_voc
from workers.data.image_hashes import write_image_hashes
from workers.data.import_report import REPORT, ImportRefused
from workers.data.importer import (
    DatasetImportRequest,
    DatasetImportResult,
    ImportOptions,
    import_dataset,
)
from workers.data.manifest import (
    SPLITS,
    Origin,
    check_dataset,
    read_manifest,
    recompute_digest,
    write_manifest,
)
from workers.data.problems import make_printable
from workers.data.statistics.contact_sheet import write_contact_sheet
from workers.data.statistics.dataset import read_statistics, write_statistics
from workers.errors import DatasetError

app = typer.Typer(no_args_is_help=True)

_DEFAULT_RECIPE = DigitsRecipe()


@app.callback()
def _root() -> None:
    """Create a dataset, or import one."""


@app.command()
def digits(
    *,
    out: OutOption,
    name: NameOption = "digits",
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = _DEFAULT_RECIPE.train,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = _DEFAULT_RECIPE.val,
    image_size: Annotated[
        int, typer.Option(min=32, max=1024, help="Side length, in pixels.")
    ] = _DEFAULT_RECIPE.image_size,
    smallest: Annotated[
        int | None,
        typer.Option(min=1, help="Smallest digit, in pixels; scales with the image, 14 at 160."),
    ] = None,
    largest: Annotated[
        int | None,
        typer.Option(min=1, help="Largest digit, in pixels; scales with the image, 72 at 160."),
    ] = None,
    most_objects: Annotated[
        int, typer.Option(min=1, max=50, help="Maximal number of digits in an image.")
    ] = _DEFAULT_RECIPE.most_objects,
    empty_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of images without digits.")
    ] = _DEFAULT_RECIPE.empty_share,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the random generator.")
    ] = _DEFAULT_RECIPE.seed,
    replace: ReplaceOption = False,
) -> None:
    """Create a detection dataset of handwritten digits on photographs, without a download.

    The same options give the same files, byte by byte; if they exist, nothing is written.
    """
    scale = image_size / _DEFAULT_RECIPE.image_size
    try:
        recipe = DigitsRecipe(
            train=train,
            val=val,
            image_size=image_size,
            smallest=max(8, round(_DEFAULT_RECIPE.smallest * scale))
            if smallest is None
            else smallest,
            largest=max(8, round(_DEFAULT_RECIPE.largest * scale)) if largest is None else largest,
            most_objects=most_objects,
            empty_share=empty_share,
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with exit_on_error():
        manifest = _find_existing_digits(out, name=name, recipe=recipe, replace=replace)
        if manifest is not None:
            open_output().print("The same dataset exists already; nothing was done.")
        else:
            manifest = _make_digits(out, name=name, recipe=recipe, replace=replace)
            _store_statistics(out, manifest)
        _print_manifest(manifest, out)


@app.command("import-coco")
@expand_options
def import_coco(
    *,
    target: ImportTarget,
    train_annotations: Annotated[Path, typer.Option(help="COCO file to train on.")],
    train_images: Annotated[Path, typer.Option(help="Folder of its images.")],
    val_annotations: Annotated[Path, typer.Option(help="COCO file to validate on.")],
    val_images: Annotated[Path, typer.Option(help="Folder of its images.")],
    classes: ClassesOption = "",
    settings: ImportSettings,
) -> None:
    """Import a dataset in COCO format, after checking all of it.

    By default, classes are the categories of the training file, in the order of their ids.
    """
    train, train_classes = read_coco(train_annotations, train_images)
    val, val_classes = read_coco(val_annotations, val_images)
    run_import(
        target,
        ParsedDataset(
            {"train": train, "val": val}, split_names(classes) or train_classes or val_classes
        ),
        source=f"COCO files {train_annotations} and {val_annotations}",
        settings=settings,
    )


@app.command("import-voc")
@expand_options
def import_voc(
    *,
    target: ImportTarget,
    root: Annotated[Path, typer.Option(help="Folder with Annotations, ImageSets, JPEGImages.")],
    train_set: Annotated[str, typer.Option(help="List in ImageSets/Main to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="List in ImageSets/Main to validate on.")] = "val",
    classes: ClassesOption = "",
    settings: ImportSettings,
    refresh: RefreshOption = False,
) -> None:
    """Import a dataset in Pascal VOC format, after checking all of it.

    By default, classes are those that occur, sorted.
    """
    train, val = read_voc(root, train_set), read_voc(root, val_set)
    source = f"Pascal VOC folder {root}, lists {train_set} and {val_set}"
    run_import(
        target,
        ParsedDataset(
            {"train": train, "val": val}, split_names(classes) or collect_labels(train, val)
        ),
        source=source,
        settings=settings,
        replaced_sources=(source,) if refresh else (),
    )


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    sheet: Annotated[
        Path | None, typer.Option(help="File for the sample images; by default in the folder.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Store statistics and sample images; print nothing.")
    ] = False,
) -> None:
    """Draw sample images with their boxes, and count classes, sizes and near duplicates.

    Statistics are stored in the folder, where the service reads them.
    """
    path = sheet or folder / CONTACT_SHEET
    with exit_on_error():
        manifest = check_dataset(folder)
        statistics = read_statistics(folder, manifest) or _store_statistics(folder, manifest)
        write_contact_sheet(folder, manifest, path)
    if quiet:
        return
    output = open_output()
    _print_manifest(manifest, folder)
    print_statistics(output, statistics, list_image_sizes(manifest.name))
    output.print(f"Sample images: {path.resolve()}", markup=False, soft_wrap=True)


def _find_existing_digits(
    out: Path, *, name: str, recipe: DigitsRecipe, replace: bool
) -> DatasetManifest | None:
    """The manifest if `out` contains exactly the dataset that would be created."""
    if not (out / MANIFEST).is_file():
        return None
    try:
        manifest = read_manifest(out)
        if (manifest.name, manifest.source) != (name, str(recipe)):
            return None
        check_dataset(out, digest=recompute_digest(out, manifest))
    except DatasetError as error:
        if replace:
            return None
        raise DatasetError(f"{error} Pass --replace to create it again.") from error
    return manifest


def _make_digits(out: Path, *, name: str, recipe: DigitsRecipe, replace: bool) -> DatasetManifest:
    check_output_folder(out, replace=replace)
    with (
        open_atomic_folder(out, replace=replace) as folder,
        _progress("Drawing digits", total=recipe.train + recipe.val) as advance,
    ):
        contents = {split: draw_split(folder, split, recipe, on_image=advance) for split in SPLITS}
        manifest = write_manifest(
            folder,
            name=name,
            classes=CLASSES,
            contents=contents,
            origin=Origin(str(recipe), LICENSE),
        )
        write_image_hashes(folder, manifest, contents)
    return manifest


def run_import(
    target: ImportTarget,
    dataset: ParsedDataset,
    *,
    source: str,
    settings: ImageImportSettings,
    replaced_sources: tuple[str, ...] = (),
    excluded: frozenset[Sha256] = frozenset(),
) -> None:
    """Check and write a dataset, and print what it is, or what is wrong with it.

    An earlier import from one of `replaced_sources` is replaced without --replace, too. `excluded`
    are hashes of images to leave out.
    """
    request = DatasetImportRequest(
        name=target.name,
        classes=dataset.classes,
        origin=Origin(make_printable(source), settings.license),
        has_labels=dataset.has_labels,
    )
    replaces = _is_imported_from(target.out, tuple(map(make_printable, replaced_sources)))
    options = dataclasses.replace(settings.get_options(replaces=replaces), excluded=excluded)
    with exit_on_error():
        check_classes(request.classes)
        result = _import(dataset, target.out, request, options, report_file=settings.report)
        if not options.dry_run:
            _store_statistics(target.out, result.manifest)
        if settings.report is not None:
            result.report.write(settings.report)
        _print_result(result, target.out, dataset, settings)


def _is_imported_from(out: Path, sources: tuple[str, ...]) -> bool:
    """Whether there is a dataset at `out` whose manifest has one of the sources."""
    if not sources:
        return False
    try:
        return read_manifest(out).source in sources
    except DatasetError:
        return False


def _import(
    dataset: ParsedDataset,
    out: Path,
    request: DatasetImportRequest,
    options: ImportOptions,
    *,
    report_file: Path | None,
) -> DatasetImportResult:
    """Import with a progress bar; a refusal is printed, with its report."""
    total = sum(len(split.images) for split in dataset.splits.values())
    try:
        with _progress("Checking images", total=total) as advance:
            return import_dataset(
                dataset.splits, out, request=request, options=options, on_image=advance
            )
    except ImportRefused as error:
        if report_file is not None:
            error.report.write(report_file)
        print_problems(open_output(), error.report, file=report_file)
        raise DatasetError(describe_refusal(error.report)) from error


def _print_result(
    result: DatasetImportResult, out: Path, dataset: ParsedDataset, settings: ImageImportSettings
) -> None:
    output = open_output()
    file = settings.report if settings.dry_run else out / REPORT
    print_problems(output, result.report, file=file)
    split_notes = (note for split in dataset.splits.values() for note in split.notes)
    for note in dict.fromkeys((*dataset.notes, *split_notes)):
        output.print(note, markup=False, soft_wrap=True)
    print_changes(output, result)
    _print_manifest(result.manifest, out)
    if settings.dry_run:
        output.print("Dry run: nothing was written.")


def _store_statistics(folder: Path, manifest: DatasetManifest) -> DatasetStatistics:
    total = manifest.train.num_images + manifest.val.num_images
    with _progress("Comparing images", total=total) as advance:
        return write_statistics(folder, manifest, on_image=advance)


def _print_manifest(manifest: DatasetManifest, out: Path) -> None:
    output = open_output()
    if manifest.has_labels:
        output.print(f"[bold]{manifest.name}[/], {len(manifest.classes)} classes: ", end="")
        output.print(", ".join(manifest.classes), markup=False, soft_wrap=True)
        for name, split in manifest.splits.items():
            output.print(f"  {name:<6}  {split.num_images} images, {split.num_boxes} boxes")
    else:
        output.print(f"[bold]{manifest.name}[/], no labels")
        output.print(f"  images  {manifest.train.num_images}")
    output.print(f"  digest  {manifest.digest}", soft_wrap=True)
    output.print(f"  folder  {out}", markup=False, soft_wrap=True)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print a `DatasetError` or an `OSError`, and exit with the code for a refusal."""
    try:
        yield
    except DatasetError as error:
        exit_with_refusal(str(error))
    except OSError as error:
        exit_with_refusal(f"Nothing was written: {error}")


@contextmanager
def _progress(title: str, *, total: int) -> Iterator[Callable[[], None]]:
    with show_progress(title, MofNCompleteColumn(), total=total) as update:
        yield partial(update, advance=1)
