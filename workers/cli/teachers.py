"""`tandem-worker teacher`: bring a teacher in."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from configs.catalog import UnknownPreset, spec_from_preset
from configs.protocol.names import ExitCode
from configs.spec.base import Name
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.teacher_catalog import Sha256Prefix, class_list_names, load_class_list
from workers.errors import TeacherMismatch
from workers.teachers.conversion import WeightsComparison
from workers.teachers.download import (
    OnBytes,
    SourceUnusable,
    default_download_context,
    redact_source,
)
from workers.teachers.importer import (
    TeacherImportRequest,
    TeacherImportResult,
    WeightsMismatch,
    import_teacher,
)

app = typer.Typer(no_args_is_help=True, help="Bring a teacher in.")

_SHOWN_LAYERS = 5


@app.callback()
def _root() -> None:
    """Keeps `import` a word of its own while it is the only command."""


def _name_from(text: str) -> str:
    name: str = _valid(TypeAdapter(Name), text, "lower case, digits, '.', '_', '-'; at most 63")
    return name


def _digest_from(text: str | None) -> str | None:
    if text is None:
        return None
    digest: str = _valid(TypeAdapter(Sha256Prefix), text.lower(), "8 to 64 hexadecimal digits")
    return digest


def _valid(kind: TypeAdapter[str], text: str, rule: str) -> str:
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r} is not as it should be: {rule}.") from error


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="A file, https://... or s3://bucket/key.")],
    *,
    name: Annotated[str, typer.Option(help="What runs call it.", callback=_name_from)],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")],
    preset: Annotated[str | None, typer.Option(help="It is the student of this preset.")] = None,
    detector: Annotated[
        Path | None, typer.Option(help="Its architecture, as YAML or JSON.", exists=True)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="A file with a class on each line, in the order of the outputs, or `coco`; by "
            "default as the checkpoint says."
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="The file's SHA-256 or its first digits.", callback=_digest_from),
    ] = None,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Leave out layers that the detector lacks.")
    ] = False,
) -> None:
    """Convert a checkpoint of mmdet, or of an original BCKD run, to weights and a card.

    It is read without running what is in it, and compared with the detector layer by layer.
    """
    wanted = TeacherImportRequest(
        name=name,
        detector=_detector_from(preset, detector),
        classes=_classes_from(classes),
        sha256=sha256,
        drop_unknown=drop_unknown,
    )
    with _refusals():
        out.mkdir(parents=True, exist_ok=True)
        with _progress(f"Reading {redact_source(source)}") as on_bytes:
            imported = import_teacher(
                source,
                request=wanted,
                out=out,
                context=default_download_context(),
                on_bytes=on_bytes,
            )
        _show(imported)


def _detector_from(preset: str | None, file: Path | None) -> Detector:
    if (preset is None) == (file is None):
        raise typer.BadParameter("say what it is: either --preset or --detector.")
    try:
        if preset is not None:
            detector = spec_from_preset(preset).student
        else:
            assert file is not None
            detector = Detector.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (UnknownPreset, yaml.YAMLError, ValidationError) as error:
        raise typer.BadParameter(str(error)) from error
    # Its weights come from the file.
    backbone = detector.backbone.model_copy(update={"pretrained": None})
    return detector.model_copy(update={"backbone": backbone})


def _classes_from(text: str | None) -> ClassNames | None:
    if text is None:
        return None
    if text in class_list_names():
        return load_class_list(text)
    file = Path(text)
    if not file.is_file():
        raise typer.BadParameter(
            f"there is no file {text}; lists with a name: {', '.join(class_list_names())}."
        )
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    names = tuple(line for line in lines if line)
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter(f"{text} names no class, or one twice.")
    return names


def _show(imported: TeacherImportResult) -> None:
    _report(imported.comparison)
    output = _output()
    output.print(f"{imported.weights}: SHA-256 {imported.card['sha256']}", soft_wrap=True)


def _report(comparison: WeightsComparison) -> None:
    """How many layers were found, and the names of those that were not."""
    _say("matched", comparison.matched, named=False)
    _say("computed: they follow from the architecture", comparison.constants)
    _say("missing", comparison.missing)
    _say("of another shape", comparison.mismatched)
    by_reason = sorted(comparison.unused, key=lambda item: item.reason or "")
    for why, items in groupby(by_reason, key=lambda item: item.reason):
        what = f"left out: {why}" if why else "unexpected: the detector has no such layer"
        _say(what, tuple(item.name for item in items))


def _say(what: str, names: tuple[str, ...], *, named: bool = True) -> None:
    if not names:
        return
    lines = [f"{len(names):>6}  {what}"]
    if named:
        lines += [f"        - {name}" for name in names[:_SHOWN_LAYERS]]
    if named and len(names) > _SHOWN_LAYERS:
        lines.append(f"        and {len(names) - _SHOWN_LAYERS} more")
    _output().print("\n".join(lines), markup=False, soft_wrap=True)


@contextmanager
def _refusals() -> Iterator[None]:
    """What cannot be done is said in a sentence, with the exit code that others expect."""
    try:
        yield
    except (TeacherMismatch, SourceUnusable, OSError) as error:
        if isinstance(error, WeightsMismatch):
            _report(error.comparison)
        message = f"Nothing was written. {error}"
        _errors().print(message, style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(ExitCode.REFUSED) from error


@contextmanager
def _progress(title: str) -> Iterator[OnBytes]:
    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = _errors()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as shown_progress:
        task = shown_progress.add_task(title, total=None)
        yield lambda here, total: shown_progress.update(task, completed=here, total=total)


def _output() -> Console:
    return Console(highlight=False)


def _errors() -> Console:
    return Console(stderr=True, highlight=False)
