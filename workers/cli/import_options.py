"""Options that commands of `tandem-worker data` share."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from configs.spec.base import Name
from configs.spec.dataset import ClassNames
from workers.data.importer import ImportOptions


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
ClassesOption = Annotated[
    str,
    typer.Option(
        help="Class names, separated by commas, in the order of the outputs.",
        callback=_check_class_names,
    ),
]


@dataclass(frozen=True, kw_only=True)
class ImportTarget:
    """The dataset that an import makes."""

    out: OutOption
    name: NameOption


@dataclass(frozen=True, kw_only=True)
class ImageImportSettings:
    """What an import of images states, allows and writes."""

    license: Annotated[str, typer.Option(help="The license of the data.")] = "not stated"
    drop_bad: Annotated[
        bool, typer.Option("--drop-bad", help="Drop invalid boxes and unusable images.")
    ] = False
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Read images through links out of their folder.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, and write nothing.")] = (
        False
    )
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="JSON file to write all problems to.", callback=_check_report
        ),
    ] = None
    replace: ReplaceOption = False

    def get_options(self, *, replaces: bool) -> ImportOptions:
        """The importer's options; `replaces`: also replace a dataset without --replace."""
        return ImportOptions(
            drop_bad=self.drop_bad,
            replace=self.replace or replaces,
            follow_links=self.follow_links,
            dry_run=self.dry_run,
        )


@dataclass(frozen=True, kw_only=True)
class ImportSettings(ImageImportSettings):
    """Those of an import with boxes, whatever the format."""

    clip: Annotated[
        bool, typer.Option("--clip", help="Clip boxes that reach out of their image.")
    ] = False
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Keep training images that are in val, too.")
    ] = False

    def get_options(self, *, replaces: bool) -> ImportOptions:
        """The importer's options, with those about boxes and splits."""
        options = super().get_options(replaces=replaces)
        return replace(options, clip=self.clip, allow_leak=self.allow_leak)


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for each field of each parameter that is a dataclass.

    The options stand where the parameter does, as typer lists them in this order.
    """
    parameters = signature(command).parameters
    groups: dict[str, type] = {
        name: parameter.annotation
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def run(**arguments: object) -> None:
        for name, group in groups.items():
            values = {field.name: arguments.pop(field.name) for field in fields(group)}
            arguments[name] = group(**values)
        command(**arguments)

    expanded = [
        option
        for name, parameter in parameters.items()
        for option in (_list_options(groups[name]) if name in groups else [parameter])
    ]
    run.__signature__ = signature(command).replace(parameters=expanded)  # type: ignore[attr-defined]
    return run


def _list_options(group: type) -> list[Parameter]:
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(group)
    ]
