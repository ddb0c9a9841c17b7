"""Options that commands of `tandem-worker data` share."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from configs.spec.base import Name
from configs.spec.dataset import ClassNames


def _parse_name(text: str) -> str:
    try:
        name: str = TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(
            f"{text!r} is not a name: lower case, digits, '.', '_' and '-', at most 63."
        ) from error
    return name


def _check_class_names(text: str) -> str:
    names = split_names(text)
    if len(set(names)) < len(names):
        raise typer.BadParameter("a class name is repeated.")
    return text


def _check_report(path: Path | None) -> Path | None:
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise typer.BadParameter(f"{path} is not a file in an existing folder.")
    return path


def split_names(text: str) -> ClassNames:
    """The class names in a text that separates them by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


OutOption = Annotated[Path, typer.Option(help="The dataset's folder.")]
NameOption = Annotated[str, typer.Option(help="The dataset's name.", callback=_parse_name)]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace an existing dataset.")]
RefreshOption = Annotated[
    bool, typer.Option("--refresh", help="Replace an earlier import of the same data.")
]
DropBadOption = Annotated[
    bool, typer.Option("--drop-bad", help="Drop invalid boxes and unusable images.")
]
ClipOption = Annotated[
    bool, typer.Option("--clip", help="Clip boxes that reach out of their image.")
]
FollowLinksOption = Annotated[
    bool, typer.Option("--follow-links", help="Read images through links out of their folder.")
]
AllowLeakOption = Annotated[
    bool, typer.Option("--allow-leak", help="Keep training images that are in val, too.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check all, and write nothing.")]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="JSON file to write all problems to.", callback=_check_report),
]
ClassesOption = Annotated[
    str,
    typer.Option(
        help="Class names, separated by commas, in the order of the outputs.",
        callback=_check_class_names,
    ),
]
LicenseOption = Annotated[str, typer.Option(help="The license of the data.")]
