"""`tandem-worker data`: make a dataset, or bring one in."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from configs.protocol.names import ExitCode
from configs.spec.base import Name
from configs.spec.dataset import MANIFEST, ClassNames, DatasetManifest
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.data.coco import read_coco
from workers.data.digits import CLASSES, LICENSE, DigitsRecipe, draw_split
from workers.data.importer import (
    DatasetImportRequest,
    DatasetImportResult,
    ImportOptions,
    import_dataset,
)
from workers.data.manifest import (
    SPLITS,
    Origin,
    SplitName,
    check_dataset,
    read_manifest,
    recompute_digest,
    write_manifest,
)
from workers.data.parsed import ParsedSplit
from workers.data.problems import ImportRefused, Problem, ProblemCode, count_by_code, describe_code
from workers.data.voc import read_voc
from workers.errors import DatasetError

app = typer.Typer(no_args_is_help=True, help="Make a dataset, or bring one in.")

_PROPORTIONS = DigitsRecipe()


def _name_from(text: str) -> str:
    try:
        name: str = TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(
            f"{text!r} is not lower case, digits, '.', '_' and '-', at most 63 long."
        ) from error
    return name


def _classes_from(text: str) -> str:
    names = _split(text)
    if len(set(names)) < len(names):
        raise typer.BadParameter("a class is named twice.")
    return text


def _split(text: str) -> ClassNames:
    return tuple(name.strip() for name in text.split(",") if name.strip())


OutOption = Annotated[Path, typer.Option(help="The dataset's folder.")]
NameOption = Annotated[str, typer.Option(help="What the dataset is called.", callback=_name_from)]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Take the place of a dataset that is there.")
]
DropBadOption = Annotated[
    bool, typer.Option("--drop-bad", help="Leave out bad boxes and images that cannot be used.")
]
ClassesOption = Annotated[
    str,
    typer.Option(
        help="Class names with commas between, in the order of the outputs.", callback=_classes_from
    ),
]
LicenceOption = Annotated[str, typer.Option(help="What the data may be used for.")]
FolderOption = Annotated[Path, typer.Option(exists=True, file_okay=False)]
FileOption = Annotated[Path, typer.Option(exists=True, dir_okay=False)]


@app.command()
def digits(
    *,
    out: OutOption,
    name: NameOption = "digits",
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = _PROPORTIONS.train,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = _PROPORTIONS.val,
    image_size: Annotated[
        int, typer.Option(min=32, max=1024, help="Pixels of a side.")
    ] = _PROPORTIONS.image_size,
    smallest: Annotated[
        int | None, typer.Option(min=1, help="Smallest digit in pixels; 14 at 160, in proportion.")
    ] = None,
    largest: Annotated[
        int | None, typer.Option(min=1, help="Largest digit in pixels; 72 at 160, in proportion.")
    ] = None,
    most_objects: Annotated[
        int, typer.Option(min=1, max=50, help="Most digits in an image.")
    ] = _PROPORTIONS.most_objects,
    empty_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of images that show none.")
    ] = _PROPORTIONS.empty_share,
    seed: Annotated[
        int, typer.Option(min=0, help="Another seed, another set.")
    ] = _PROPORTIONS.seed,
    replace: ReplaceOption = False,
) -> None:
    """Handwritten digits on photographs: a real detection set without a download.

    The same options give the same files, to the byte; where they are already, nothing is done.
    """
    scale = image_size / _PROPORTIONS.image_size
    try:
        recipe = DigitsRecipe(
            train=train,
            val=val,
            image_size=image_size,
            smallest=max(8, round(_PROPORTIONS.smallest * scale)) if smallest is None else smallest,
            largest=max(8, round(_PROPORTIONS.largest * scale)) if largest is None else largest,
            most_objects=most_objects,
            empty_share=empty_share,
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with _refusals():
        manifest = _digits_already(out, name=name, recipe=recipe, replace=replace)
        if manifest is not None:
            _output().print("These very digits are there already; nothing was done.")
        else:
            manifest = _make_digits(out, name=name, recipe=recipe, replace=replace)
        _show(manifest, out)


@app.command("import-coco")
def import_coco(
    *,
    out: OutOption,
    name: NameOption,
    train_annotations: Annotated[Path, typer.Option(help="COCO file to train on.")],
    train_images: Annotated[Path, typer.Option(help="FolderOption of its images.")],
    val_annotations: Annotated[Path, typer.Option(help="COCO file to validate on.")],
    val_images: Annotated[Path, typer.Option(help="FolderOption of its images.")],
    classes: ClassesOption = "",
    licence: LicenceOption = "not stated",
    drop_bad: DropBadOption = False,
    replace: ReplaceOption = False,
) -> None:
    """Bring in a set in COCO format, after a look at everything in it.

    Classes are the categories of the training file in the order of their ids, unless named.
    """
    train, train_classes = read_coco(train_annotations, train_images)
    val, val_classes = read_coco(val_annotations, val_images)
    wanted = DatasetImportRequest(
        name=name,
        classes=_split(classes) or train_classes or val_classes,
        origin=Origin(f"COCO files {train_annotations} and {val_annotations}", licence),
    )
    _import({"train": train, "val": val}, out, wanted, ImportOptions(drop_bad, replace))


@app.command("import-voc")
def import_voc(
    *,
    out: OutOption,
    name: NameOption,
    root: Annotated[
        Path, typer.Option(help="FolderOption with Annotations, ImageSets, JPEGImages.")
    ],
    train_set: Annotated[str, typer.Option(help="List in ImageSets/Main to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="List in ImageSets/Main to validate on.")] = "val",
    classes: ClassesOption = "",
    licence: LicenceOption = "not stated",
    drop_bad: DropBadOption = False,
    replace: ReplaceOption = False,
    refresh: Annotated[
        bool, typer.Option(help="Take the place of an earlier import of the same folder and lists.")
    ] = False,
) -> None:
    """Bring in a set in Pascal VOC format, after a look at everything in it.

    Classes are those that occur, sorted, unless named.
    """
    drafts: dict[SplitName, ParsedSplit] = {
        "train": read_voc(root, train_set),
        "val": read_voc(root, val_set),
    }
    found = {
        box.label for draft in drafts.values() for image in draft.images for box in image.boxes
    }
    wanted = DatasetImportRequest(
        name=name,
        classes=_split(classes) or tuple(sorted(found)),
        origin=Origin(f"Pascal VOC folder {root}, lists {train_set} and {val_set}", licence),
    )
    replaces = replace or (refresh and _came_from(out, wanted.origin))
    _import(drafts, out, wanted, ImportOptions(drop_bad, replaces))


def _came_from(out: Path, origin: Origin) -> bool:
    """Whether the dataset at `out`, if there is one, was imported from there."""
    try:
        return read_manifest(out).source == origin.source
    except DatasetError:
        return False


def _digits_already(
    out: Path, *, name: str, recipe: DigitsRecipe, replace: bool
) -> DatasetManifest | None:
    """The manifest if `out` holds what would be made, whole and unchanged."""
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
        raise DatasetError(f"{error} To make it again, say --replace.") from error
    return manifest


def _make_digits(out: Path, *, name: str, recipe: DigitsRecipe, replace: bool) -> DatasetManifest:
    check_output_folder(out, replace=replace)
    with (
        open_atomic_folder(out, replace=replace) as folder,
        _progress("Drawing digits", total=recipe.train + recipe.val) as advance,
    ):
        parts = {part: draw_split(folder, part, recipe, on_image=advance) for part in SPLITS}
        return write_manifest(
            folder, name=name, classes=CLASSES, contents=parts, origin=Origin(str(recipe), LICENSE)
        )


def _import(
    drafts: Mapping[SplitName, ParsedSplit],
    out: Path,
    wanted: DatasetImportRequest,
    handling: ImportOptions,
) -> None:
    total = sum(len(draft.images) for draft in drafts.values())
    with _refusals():
        try:
            with _progress("Checking images", total=total) as advance:
                imported = import_dataset(
                    drafts, out, request=wanted, options=handling, on_image=advance
                )
        except ImportRefused as refused:
            _report(refused.problems)
            raise DatasetError(_remedy(refused.problems)) from refused
        _report(imported.problems)
        _account(imported)
        _show(imported.manifest, out)


def _remedy(problems: tuple[Problem, ...]) -> str:
    if any(problem.code is ProblemCode.EMPTY_SPLIT for problem in problems):
        return "Nothing was written: without the above, train or val is left with nothing."
    return "Nothing was written. Mend the above, or leave it out with --drop-bad."


def _report(problems: tuple[Problem, ...]) -> None:
    """Every problem on a line, as compilers do it, then how many of each kind."""
    if not problems:
        return
    output = _output()
    for problem in problems:
        output.print(str(problem), markup=False, soft_wrap=True)
    table = Table("problems", "kind", "", box=SIMPLE_HEAD, pad_edge=False)
    for code, count in count_by_code(problems).items():
        table.add_row(str(count), code.value, describe_code(code))
    output.print(table)


def _account(imported: DatasetImportResult) -> None:
    """What was done to the data on the way."""
    output = _output()
    for part, dropped in imported.dropped.items():
        if dropped.num_images or dropped.num_boxes:
            output.print(
                f"Left out of {part}: {dropped.num_images} images, {dropped.num_boxes} boxes."
            )
    if imported.num_trimmed:
        output.print(
            f"Trimmed: {imported.num_trimmed} boxes, by a pixel or less, to their image's edge."
        )
    if imported.num_linked:
        output.print(
            f"Hard-linked: {imported.num_linked} images; change the originals and these change."
        )
    for reason, count in imported.copied.items():
        output.print(f"Copied: {count} images, as they cannot be linked ({reason}).", markup=False)


def _show(manifest: DatasetManifest, out: Path) -> None:
    output = _output()
    output.print(f"[bold]{manifest.name}[/], {len(manifest.classes)} classes: ", end="")
    output.print(", ".join(manifest.classes), markup=False, soft_wrap=True)
    for part, split in (("train", manifest.train), ("val", manifest.val)):
        output.print(f"  {part:<6}  {split.num_images} images, {split.num_boxes} boxes")
    output.print(f"  digest  {manifest.digest}", soft_wrap=True)
    output.print(f"  folder  {out}", markup=False, soft_wrap=True)


@contextmanager
def _refusals() -> Iterator[None]:
    """What cannot be done is said in a sentence, with the exit code that others expect."""
    try:
        yield
    except DatasetError as error:
        _errors().print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(ExitCode.REFUSED) from error
    except OSError as error:
        _errors().print(
            f"Nothing was written: {error}", style="bold red", markup=False, soft_wrap=True
        )
        raise typer.Exit(ExitCode.REFUSED) from error


@contextmanager
def _progress(title: str, *, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = _errors()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        task = shown.add_task(title, total=total)
        yield lambda: shown.advance(task)


def _output() -> Console:
    return Console(highlight=False)


def _errors() -> Console:
    return Console(stderr=True, highlight=False)
