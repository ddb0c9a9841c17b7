"""`tandem-worker teachers`: import a teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.progress import DownloadColumn

from configs.catalog import UnknownPreset, spec_from_preset
from configs.problems import describe_validation
from configs.spec.base import Name
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.teacher_catalog import Sha256Prefix, class_list_names, load_class_list
from workers.cli.terminal import exit_with_refusal, open_output, show_progress
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

app = typer.Typer(no_args_is_help=True, help="Import a teacher.")

_MAX_LISTED_LAYERS = 5


@app.callback()
def _root() -> None:
    """Makes typer keep `import` as a subcommand, though it is the only one."""


def _parse_name(text: str) -> str:
    name: str = _validate(TypeAdapter(Name), text, "lower case, digits, '.', '_', '-'; at most 63")
    return name


def _parse_digest(text: str | None) -> str | None:
    if text is None:
        return None
    digest: str = _validate(TypeAdapter(Sha256Prefix), text.lower(), "8 to 64 hexadecimal digits")
    return digest


def _validate(kind: TypeAdapter[str], text: str, rule: str) -> str:
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r} is invalid; expected: {rule}.") from error


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="A file, https://... or s3://bucket/key.")],
    *,
    name: Annotated[
        str,
        typer.Option(help="The teacher's name, by which runs refer to it.", callback=_parse_name),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the weights and the card.")],
    preset: Annotated[
        str | None, typer.Option(help="A preset whose student has the teacher's architecture.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="The teacher's architecture, as YAML or JSON.", exists=True)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="A file with one class per line, in the order of the outputs, or `coco`; by "
            "default those of the checkpoint."
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="The file's SHA-256 or its first digits.", callback=_parse_digest),
    ] = None,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Drop layers that the detector does not have.")
    ] = False,
) -> None:
    """Convert a checkpoint of mmdet, or of an original BCKD run, to weights and a card.

    It is read without executing code in it, and compared with the detector layer by layer.
    """
    request = TeacherImportRequest(
        name=name,
        detector=_parse_detector(preset, detector),
        classes=_parse_classes(classes),
        sha256=sha256,
        drop_unknown=drop_unknown,
    )
    with _exit_on_error():
        out.mkdir(parents=True, exist_ok=True)
        with _progress(f"Reading {redact_source(source)}") as on_bytes:
            result = import_teacher(
                source,
                request=request,
                out=out,
                context=default_download_context(),
                on_bytes=on_bytes,
            )
        _print_result(result)


def _parse_detector(preset: str | None, file: Path | None) -> Detector:
    if (preset is None) == (file is None):
        raise typer.BadParameter("pass either --preset or --detector.")
    try:
        if preset is not None:
            detector = spec_from_preset(preset).student.architecture
        else:
            assert file is not None
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            detector = Detector.model_validate(document)
    except ValidationError as error:
        raise typer.BadParameter(describe_validation(error, Detector, document)) from error
    except (UnknownPreset, yaml.YAMLError) as error:
        raise typer.BadParameter(str(error)) from error
    # The weights come from the file.
    backbone = detector.backbone.model_copy(update={"pretrained": None})
    return detector.model_copy(update={"backbone": backbone})


def _parse_classes(text: str | None) -> ClassNames | None:
    if text is None:
        return None
    if text in class_list_names():
        return load_class_list(text)
    file = Path(text)
    if not file.is_file():
        raise typer.BadParameter(
            f"there is no file {text}; known class lists: {', '.join(class_list_names())}."
        )
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    names = tuple(line for line in lines if line)
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter(f"{text} contains no class, or a repeated one.")
    return names


def _print_result(result: TeacherImportResult) -> None:
    _print_comparison(result.comparison)
    output = open_output()
    output.print(f"{result.weights}: SHA-256 {result.card['sha256']}", soft_wrap=True)


def _print_comparison(comparison: WeightsComparison) -> None:
    """Print how many layers match, and the names of those that do not."""
    _print_layers("matched", comparison.matched, lists_names=False)
    _print_layers("computed: they follow from the architecture", comparison.constants)
    _print_layers("missing", comparison.missing)
    _print_layers("of another shape", comparison.mismatched)
    by_reason = sorted(comparison.unused, key=lambda item: item.reason or "")
    for reason, items in groupby(by_reason, key=lambda item: item.reason):
        label = f"left out: {reason}" if reason else "unexpected: the detector has no such layer"
        _print_layers(label, tuple(item.name for item in items))


def _print_layers(label: str, names: tuple[str, ...], *, lists_names: bool = True) -> None:
    if not names:
        return
    lines = [f"{len(names):>6}  {label}"]
    if lists_names:
        lines += [f"        - {name}" for name in names[:_MAX_LISTED_LAYERS]]
    if lists_names and len(names) > _MAX_LISTED_LAYERS:
        lines.append(f"        and {len(names) - _MAX_LISTED_LAYERS} more")
    open_output().print("\n".join(lines), markup=False, soft_wrap=True)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Print an error of the import, and exit with the code for a refusal."""
    try:
        yield
    except (TeacherMismatch, SourceUnusable, OSError) as error:
        if isinstance(error, WeightsMismatch):
            _print_comparison(error.comparison)
        exit_with_refusal(f"Nothing was written. {error}")


@contextmanager
def _progress(title: str) -> Iterator[OnBytes]:
    with show_progress(title, DownloadColumn(), total=None) as update:
        yield lambda done, total: update(completed=done, total=total)
