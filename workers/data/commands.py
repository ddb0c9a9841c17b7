"""`tandem-worker data`: make a dataset, or bring one in."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from configs.spec import ClassNames, DatasetManifest, ExitCode
from workers.data.coco import classes_of_coco, read_coco
from workers.data.digits import CLASSES, LICENCE, DigitsRecipe, draw_part
from workers.data.draft import Draft, import_drafts
from workers.data.manifest import Origin, read_manifest, write_manifest
from workers.data.problems import ImportRefused, Problem, counts
from workers.data.voc import classes_of_voc, read_voc
from workers.errors import DatasetError

app = typer.Typer(no_args_is_help=True, help="Make a dataset, or bring one in.")
console = Console()

Out = Annotated[Path, typer.Option(help="The dataset's folder.")]
Named = Annotated[str, typer.Option(help="What the dataset is called.")]
DropBad = Annotated[bool, typer.Option("--drop-bad", help="Leave bad boxes and images out.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a dataset that is there.")]
Classes = Annotated[str | None, typer.Option(help="Class names, comma-separated, in the heads' order.")]


@app.command()
def digits(
    out: Out,
    name: Named = "digits",
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 4000,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = 500,
    image_size: Annotated[int, typer.Option(min=64, max=1024, help="Pixels of a side.")] = 160,
    smallest: Annotated[int, typer.Option(min=8, help="Smallest digit, in pixels.")] = 14,
    largest: Annotated[int, typer.Option(min=8, help="Largest digit, in pixels.")] = 72,
    most_objects: Annotated[int, typer.Option(min=1, max=50, help="Most digits in an image.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another set.")] = 0,
) -> None:
    """Handwritten digits on photographs: a real detection set without a download."""
    if smallest > largest or largest * 3 // 2 > image_size:
        _refuse(f"--smallest {smallest} and --largest {largest} do not fit --image-size {image_size}.")
    recipe = DigitsRecipe(train, val, image_size, smallest, largest, most_objects, seed)
    origin = Origin(f"tandem data digits: {recipe}", LICENCE)
    if _is_made_already(out, origin):
        console.print(f"{out} holds this very set already.")
        _show(read_manifest(out), out)
        return
    with Progress(console=console) as progress:
        task = progress.add_task("Drawing digits", total=train + val)
        documents = {
            part: draw_part(out, part, recipe, on_image=lambda: progress.advance(task))
            for part in ("train", "val")
        }
    _show(write_manifest(out, name=name, classes=CLASSES, documents=documents, origin=origin), out)


@app.command("import-coco")
def import_coco(
    out: Out,
    name: Named,
    train_annotations: Annotated[Path, typer.Option(help="COCO file of the training part.")],
    train_images: Annotated[Path, typer.Option(help="Its image folder.")],
    val_annotations: Annotated[Path, typer.Option(help="COCO file of the validation part.")],
    val_images: Annotated[Path, typer.Option(help="Its image folder.")],
    classes: Classes = None,
    drop_bad: DropBad = False,
    replace: Replace = False,
) -> None:
    """Bring in a set in COCO format, after a look at everything in it."""
    drafts = {
        "train": read_coco(train_annotations, train_images),
        "val": read_coco(val_annotations, val_images),
    }
    found = _split_names(classes) or classes_of_coco(train_annotations)
    origin = Origin(f"COCO files {train_annotations} and {val_annotations}", "unknown")
    _import(drafts, out, name=name, classes=found, origin=origin, drop_bad=drop_bad, replace=replace)


@app.command("import-voc")
def import_voc(
    out: Out,
    name: Named,
    root: Annotated[Path, typer.Option(help="Folder with Annotations, ImageSets and JPEGImages.")],
    train_set: Annotated[str, typer.Option(help="Image set to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="Image set to validate on.")] = "val",
    classes: Classes = None,
    drop_bad: DropBad = False,
    replace: Replace = False,
) -> None:
    """Bring in a set in Pascal VOC format, after a look at everything in it."""
    drafts = {"train": read_voc(root, train_set), "val": read_voc(root, val_set)}
    found = _split_names(classes) or classes_of_voc(list(drafts.values()))
    origin = Origin(f"VOC folder {root}, sets {train_set} and {val_set}", "unknown")
    _import(drafts, out, name=name, classes=found, origin=origin, drop_bad=drop_bad, replace=replace)


def _import(
    drafts: dict[str, Draft],
    out: Path,
    *,
    name: str,
    classes: ClassNames,
    origin: Origin,
    drop_bad: bool,
    replace: bool,
) -> None:
    try:
        with Progress(console=console) as progress:
            total = sum(len(draft.images) for draft in drafts.values())
            advance = _advancer(progress, total)
            imported = import_drafts(
                drafts,
                out,
                name=name,
                classes=classes,
                origin=origin,
                drop_bad=drop_bad,
                replace=replace,
                on_image=advance,
            )
    except ImportRefused as refused:
        _report(refused.problems)
        _refuse("Nothing was written. Mend the annotations, or say --drop-bad to leave these out.")
    except FileExistsError as error:
        _refuse(str(error))
    else:
        _report(imported.dropped)
        if imported.dropped:
            console.print(f"Left out: {len(imported.dropped)}.")
        _show(imported.manifest, out)


def _advancer(progress: Progress, total: int) -> Callable[[], None]:
    task = progress.add_task("Checking images", total=total)
    return lambda: progress.advance(task)


def _report(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        console.print(str(problem), style="yellow", markup=False, highlight=False, soft_wrap=True)
    for fault, count in counts(problems).items():
        console.print(f"{count:6d}  {fault}", style="bold")


def _show(manifest: DatasetManifest, out: Path) -> None:
    console.print(f"[bold]{manifest.name}[/bold]: {len(manifest.classes)} classes: {', '.join(manifest.classes)}")
    for part, split in (("train", manifest.train), ("val", manifest.val)):
        console.print(f"  {part:5}  {split.num_images} images, {split.num_boxes} boxes")
    console.print(f"  digest {manifest.digest}", soft_wrap=True)
    console.print(f"  folder {out}", soft_wrap=True)


def _is_made_already(out: Path, origin: Origin) -> bool:
    try:
        return read_manifest(out).source == origin.source
    except DatasetError:
        return False


def _split_names(names: str | None) -> ClassNames:
    return tuple(part.strip() for part in names.split(",") if part.strip()) if names else ()


def _refuse(message: str) -> None:
    console.print(message, style="bold red", markup=False, soft_wrap=True)
    sys.exit(ExitCode.REFUSED)
