"""`tandem-worker data import`, and importers of single formats that need few options."""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.data import app, exit_on_error, import_splits, is_imported_from
from workers.cli.import_options import (
    AllowLeakOption,
    ClassesOption,
    ClipOption,
    DropBadOption,
    DryRunOption,
    FollowLinksOption,
    LicenseOption,
    NameOption,
    OutOption,
    RefreshOption,
    ReplaceOption,
    ReportOption,
    split_names,
)
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
from workers.data.importer import DatasetImportRequest, ImportOptions
from workers.data.manifest import Origin
from workers.data.problems import make_printable

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
SkipEmptyOption = Annotated[
    bool, typer.Option("--skip-empty-classes", help="Leave out classes without any box.")
]


@app.command("import")
def import_layout(
    folder: Annotated[
        Path | None, typer.Argument(help="The dataset's folder, of any known layout.")
    ] = None,
    *,
    root: Annotated[Path | None, typer.Option(help="The same as FOLDER.")] = None,
    out: OutOption,
    name: NameOption,
    format: Annotated[
        AnnotationFormat | None, typer.Option(help="Its format, if there are several.")
    ] = None,
    train_set: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="The split to validate on.")] = "val",
    val_fraction: FractionOption = None,
    split_seed: SeedOption = None,
    classes: ClassesOption = "",
    skip_empty_classes: SkipEmptyOption = False,
    license: LicenseOption = "not stated",
    drop_bad: DropBadOption = False,
    clip: ClipOption = False,
    follow_links: FollowLinksOption = False,
    allow_leak: AllowLeakOption = False,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    replace: ReplaceOption = False,
    refresh: RefreshOption = False,
) -> None:
    """Import a dataset whose layout is recognized, after checking all of it."""
    source = folder or root
    if source is None or (folder and root):
        raise typer.BadParameter("give the dataset's folder, once.", param_hint="FOLDER")
    seeded = _read_seeded_split(val_fraction, split_seed)
    with exit_on_error():
        layout = detect_layout(source, format)
        dataset = read_layout(layout, train_set=train_set, val_set=val_set, seeded=seeded)
    request = DatasetImportRequest(
        name=name,
        classes=split_names(classes) or _list_classes(dataset, skip_empty=skip_empty_classes),
        origin=Origin(make_printable(f"{layout.format.upper()} folder {layout.root}"), license),
    )
    # What `import-voc` has imported from the same folder may be replaced, too.
    sources = (request.origin.source, f"Pascal VOC folder {layout.root}, lists train and val")
    replaces = replace or (refresh and is_imported_from(out, *sources))
    options = ImportOptions(drop_bad, replaces, clip, follow_links, dry_run, allow_leak)
    import_splits(dataset.splits, out, request, options, report, notes=dataset.notes)


@app.command("import-yolo")
def import_yolo(
    *,
    data: Annotated[Path, typer.Option(help="data.yaml of Ultralytics, or obj.data of darknet.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds images and labels; that of the file by default."),
    ] = None,
    out: OutOption,
    name: NameOption,
    train_set: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    val_set: Annotated[str, typer.Option(help="The split to validate on.")] = "val",
    val_fraction: FractionOption = None,
    split_seed: SeedOption = None,
    classes: ClassesOption = "",
    skip_empty_classes: SkipEmptyOption = False,
    license: LicenseOption = "not stated",
    drop_bad: DropBadOption = False,
    clip: ClipOption = False,
    follow_links: FollowLinksOption = False,
    allow_leak: AllowLeakOption = False,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Import a dataset in YOLO format, as its data.yaml describes it, after checking all of it."""
    seeded = _read_seeded_split(val_fraction, split_seed)
    with exit_on_error():
        splits = read_yolo_description(data, root)
        layout = Layout(AnnotationFormat.YOLO, root or data.parent, splits)
        dataset = read_layout(layout, train_set=train_set, val_set=val_set, seeded=seeded)
    request = DatasetImportRequest(
        name=name,
        classes=split_names(classes) or _list_classes(dataset, skip_empty=skip_empty_classes),
        origin=Origin(make_printable(f"YOLO description {data}"), license),
    )
    options = ImportOptions(drop_bad, replace, clip, follow_links, dry_run, allow_leak)
    import_splits(dataset.splits, out, request, options, report, notes=dataset.notes)


def _read_seeded_split(val_fraction: float | None, seed: int | None) -> SeededSplit | None:
    if val_fraction is None and seed is None:
        return None
    default = SeededSplit()
    return SeededSplit(
        default.val_fraction if val_fraction is None else val_fraction,
        default.seed if seed is None else seed,
    )


def _list_classes(dataset: ParsedDataset, *, skip_empty: bool) -> tuple[str, ...]:
    if not skip_empty:
        return dataset.classes
    occurring = set(collect_labels(*dataset.splits.values()))
    return tuple(name for name in dataset.classes if name in occurring)
