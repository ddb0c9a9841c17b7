"""`tandem-worker data import`, and importers of single formats that need few options."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from configs.spec.base import Sha256
from workers.cli.data import app, exit_on_error, run_import
from workers.cli.import_options import (
    ClassesOption,
    ImageImportSettings,
    ImportSettings,
    ImportTarget,
    RefreshOption,
    expand_options,
    split_names,
)
from workers.cli.terminal import open_output
from workers.data.formats.image_folder import read_image_folder
from workers.data.formats.layouts import (
    AnnotationFormat,
    Layout,
    ParsedDataset,
    detect_layout,
    read_layout,
)
from workers.data.formats.parsed import collect_labels
from workers.data.formats.seeded_split import SeededSplit
from workers.data.formats.yolo_layout import read_yolo_description
from workers.data.image_hashes import read_split_hashes
from workers.data.manifest import check_dataset, read_manifest
from workers.data.resolve import LocalDataset
from workers.data.statistics.dataset import find_similar_images

__all__ = ["app"]

FractionOption = Annotated[
    float | None,
    typer.Option(
        help="Part of the images that becomes val where the data has none; 0.2 by default.",
        min=0.001,
        max=0.999,
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of that choice; 0 by default.", min=0)]
ExcludeOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of a dataset whose validation images are left out; repeatable."),
]
SkipEmptyOption = Annotated[
    bool, typer.Option("--skip-empty-classes", help="Leave out classes without any box.")
]


@app.command("import")
@expand_options
def import_layout(
    folder: Annotated[
        Path | None, typer.Argument(help="The dataset's folder, of any known layout.")
    ] = None,
    *,
    root: Annotated[Path | None, typer.Option(help="The same as FOLDER.")] = None,
    target: ImportTarget,
    format: Annotated[
        AnnotationFormat | None, typer.Option(help="Its format, if there are several.")
    ] = None,
    train_set: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="The split to validate on.")] = "val",
    val_fraction: FractionOption = None,
    split_seed: SeedOption = None,
    classes: ClassesOption = "",
    skip_empty_classes: SkipEmptyOption = False,
    settings: ImportSettings,
    refresh: RefreshOption = False,
) -> None:
    """Import a dataset whose layout is recognized, after checking all of it."""
    dataset_folder = folder or root
    if dataset_folder is None or (folder and root):
        raise typer.BadParameter("give the dataset's folder, once.", param_hint="FOLDER")
    seeded = _read_seeded_split(val_fraction, split_seed)
    with exit_on_error():
        layout = detect_layout(dataset_folder, format)
        dataset = read_layout(layout, train_set=train_set, val_set=val_set, seeded=seeded)
    source = f"{layout.format.upper()} folder {layout.root}"
    # What `import-voc` has imported from the same folder may be replaced, too.
    replaced_sources = (source, f"Pascal VOC folder {layout.root}, lists train and val")
    # It holds COCO's parsed files, which take gigabytes, and the check of the images takes long.
    del layout
    run_import(
        target,
        _choose_classes(dataset, classes, skip_empty=skip_empty_classes),
        source=source,
        settings=settings,
        replaced_sources=replaced_sources if refresh else (),
    )


@app.command("import-yolo")
@expand_options
def import_yolo(
    *,
    data: Annotated[Path, typer.Option(help="data.yaml of Ultralytics, or obj.data of darknet.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds images and labels; that of the file by default."),
    ] = None,
    target: ImportTarget,
    train_set: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="The split to validate on.")] = "val",
    val_fraction: FractionOption = None,
    split_seed: SeedOption = None,
    classes: ClassesOption = "",
    skip_empty_classes: SkipEmptyOption = False,
    settings: ImportSettings,
) -> None:
    """Import a dataset in YOLO format, as its data.yaml describes it, after checking all of it."""
    seeded = _read_seeded_split(val_fraction, split_seed)
    with exit_on_error():
        splits = read_yolo_description(data, root)
        layout = Layout(AnnotationFormat.YOLO, root or data.parent, splits)
        dataset = read_layout(layout, train_set=train_set, val_set=val_set, seeded=seeded)
    run_import(
        target,
        _choose_classes(dataset, classes, skip_empty=skip_empty_classes),
        source=f"YOLO description {data}",
        settings=settings,
    )


@app.command("import-images")
@expand_options
def import_images(
    folder: Annotated[Path, typer.Argument(help="Folder of images, also in subfolders.")],
    *,
    target: ImportTarget,
    exclude_of: ExcludeOption = None,
    settings: ImageImportSettings,
) -> None:
    """Import images without labels, which runs train on with a teacher (data.unlabelled)."""
    with exit_on_error():
        dataset = read_image_folder(folder)
        excluded = _read_validation_hashes(exclude_of or [])
    source = f"folder of images {folder}"
    run_import(target, dataset, source=source, settings=settings, excluded=excluded)
    if not settings.dry_run:
        with exit_on_error():
            for other in exclude_of or []:
                _print_similar_images(target.out, LocalDataset(other, check_dataset(other)))


def _read_validation_hashes(folders: list[Path]) -> frozenset[Sha256]:
    hashes: set[Sha256] = set()
    for folder in folders:
        hashes.update(read_split_hashes(folder, check_dataset(folder), "val").values())
    return frozenset(hashes)


def _print_similar_images(root: Path, validated: LocalDataset) -> None:
    similar = find_similar_images(root, read_manifest(root), validated=validated)
    if similar:
        first = similar[0]
        open_output().print(
            f"Validation images of {validated.manifest.name} that look like an image here, which "
            f"stays: {len(similar):,}, first {first.val} like {first.train}.",
            markup=False,
            soft_wrap=True,
        )


def _read_seeded_split(val_fraction: float | None, seed: int | None) -> SeededSplit | None:
    if val_fraction is None and seed is None:
        return None
    default = SeededSplit()
    return SeededSplit(
        default.val_fraction if val_fraction is None else val_fraction,
        default.seed if seed is None else seed,
    )


def _choose_classes(dataset: ParsedDataset, names: str, *, skip_empty: bool) -> ParsedDataset:
    """The dataset with the named classes, separated by commas, or else its own."""
    if split_names(names):
        return replace(dataset, classes=split_names(names))
    if not skip_empty:
        return dataset
    occurring = set(collect_labels(*dataset.splits.values()))
    return replace(dataset, classes=tuple(name for name in dataset.classes if name in occurring))
