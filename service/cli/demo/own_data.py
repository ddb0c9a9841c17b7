"""`tandem distill`: teacher, student alone and distilled student on one's own images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.demo.commands import (
    Changes,
    Fresh,
    parse_common_changes,
    parse_seeds,
)
from service.cli.demo.experiment import Experiment, run_experiment
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from service.api.schemas.registry import StatisticsView
    from service.cli.demo.choices import ImageSizeChoice, PresetChoice
    from service.client import TandemClient

EPOCHS, EVERY_EPOCHS = "schedule.epochs", "evaluation.every_epochs"


Data = Annotated[
    str, typer.Argument(metavar="FOLDER|DATASET", help="Images with boxes, or a dataset.")
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|RUN|FILE",
        help="A registered teacher, a run, or a checkpoint; by default one is trained.",
    ),
]
Preset = Annotated[
    str | None, typer.Option(help="Preset of the distilled student; by default by the data.")
]
Epochs = Annotated[
    int | None, typer.Option(help="Epochs of every run; by default the preset's.", min=1)
]
Seeds = Annotated[str, typer.Option(help="Seeds; each trains a student alone and distilled.")]
DatasetName = Annotated[
    str | None, typer.Option("--name", help="The dataset's name; by default the folder's.")
]
Page = Annotated[
    Path | None, typer.Option(help="File for the HTML report; by default NAME-report.html.")
]
DropBad = Annotated[
    bool, typer.Option("--drop-bad", help="Drop invalid boxes and unusable images.")
]
Clip = Annotated[bool, typer.Option("--clip", help="Clip boxes that reach out of their image.")]
ValFraction = Annotated[
    float | None,
    typer.Option(help="Part of the images to validate on, where the data has no split."),
]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Import the data, show what would run, and stop.")
]


@dataclass(frozen=True)
class ImportChoices:
    """What the import may change in the data."""

    drop_bad: bool = False
    clip: bool = False
    val_fraction: float | None = None

    @property
    def options(self) -> list[str]:
        """Options of `tandem-worker data import`."""
        flags = {"--drop-bad": self.drop_bad, "--clip": self.clip}
        options = [name for name, is_on in flags.items() if is_on]
        if self.val_fraction is not None:
            options.append(f"--val-fraction={self.val_fraction}")
        return options


@dataclass(frozen=True)
class TeacherReference:
    """A teacher that exists: a registered one, or a run; neither if one is trained."""

    name: str | None = None
    run_id: str | None = None

    @property
    def is_trained_first(self) -> bool:
        """Whether the experiment trains the teacher."""
        return self.name is None and self.run_id is None


def distill(
    data: Data,
    changes: Changes = None,
    teacher: Teacher = None,
    preset: Preset = None,
    epochs: Epochs = None,
    seeds: Seeds = "0",
    name: DatasetName = None,
    page: Page = None,
    drop_bad: DropBad = False,
    clip: Clip = False,
    val_fraction: ValFraction = None,
    plan: PlanOnly = False,
    fresh: Fresh = False,
) -> None:
    """Compare a student with and without a teacher on your own images.

    Recognizes the folder's layout, imports it, trains a teacher or takes one, trains the student
    alone and distilled, and ends with a table and a report page.
    """
    from configs.catalog import spec_from_preset
    from service.cli.datasets import register_dataset
    from service.cli.demo.choices import choose_preset, suggest_name
    from service.cli.stack import start_stack_with_progress

    folder = Path(data).expanduser()
    is_folder = folder.is_dir()
    if not is_folder and "/" in data:
        raise CliError(_explain_missing_data(data))
    dataset = name or (suggest_name(folder.resolve().name) if is_folder else data)
    choice = choose_preset(dataset, preset)
    common = set_epochs(parse_common_changes(changes or ()), choice, epochs)
    spec_from_preset(choice.distilled, common)  # refuses a wrong change before anything is done
    seed_list = parse_seeds(seeds)
    imported = None
    if is_folder:
        imports = ImportChoices(drop_bad, clip, val_fraction)
        imported = import_folder(folder.resolve(), dataset, imports)
    start_stack_with_progress()
    if imported is not None:
        register_dataset(imported, name=dataset, replace=True)
    with open_client() as client:
        reference = find_teacher(client, teacher, choice)
        statistics = read_statistics(client, dataset, data=data)
        experiment = build_experiment(dataset, choice, reference, common, statistics)
        _show_choices(client, experiment, choice, seed_list)
    if not plan:
        page = page or Path(f"{dataset}-report.html")
        run_experiment(experiment, seeds=seed_list, fresh=fresh, page=page)


def set_epochs(
    changes: "Mapping[str, JsonValue]", choice: "PresetChoice", epochs: int | None
) -> "dict[str, JsonValue]":
    """The changes with this number of epochs, and at least one evaluation within them."""
    result = dict(changes)
    if epochs is None:
        return result
    if EPOCHS in result:
        raise CliError(
            ErrorMessage(f"Both --epochs and {EPOCHS} are given.", advice=("Leave one out.",))
        )
    result[EPOCHS] = epochs
    if choice.spec.evaluation.every_epochs > epochs:
        result.setdefault(EVERY_EPOCHS, epochs)
    return result


def import_folder(folder: Path, name: str, choices: ImportChoices) -> Path:
    """Import a folder of any known layout; returns the dataset's folder.

    A folder that is a dataset already is returned as it is.
    """
    from configs.spec.dataset import MANIFEST
    from service.cli.datasets import write_dataset_folder

    if (folder / MANIFEST).is_file():
        return folder
    options = [f"--root={folder}", "--refresh", *choices.options]
    try:
        return write_dataset_folder("import", name=name, options=options)
    except CliError as error:
        advice = (
            *error.error_message.advice,
            "`tandem distill` takes --drop-bad, --clip, --val-fraction, and --name for another "
            "name.",
        )
        raise CliError(ErrorMessage(error.error_message.summary, advice=advice)) from error


def find_teacher(
    client: "TandemClient", teacher: str | None, choice: "PresetChoice"
) -> TeacherReference:
    """The teacher that is named: a file is registered first; without a name one is trained."""
    if teacher is None:
        if choice.teacher is None:
            raise CliError(
                ErrorMessage(
                    f"No preset trains the teacher of {choice.distilled}.",
                    advice=("Name one with --teacher; `tandem teachers list` shows them.",),
                )
            )
        return TeacherReference()
    registered = [item.name for item in client.teachers()]
    if teacher in registered:
        return TeacherReference(name=teacher)
    file = Path(teacher).expanduser()
    if file.is_file():
        return TeacherReference(name=_register_file(file.resolve()))
    if "/" in teacher or teacher.endswith(".pth"):
        raise CliError(
            ErrorMessage(
                f"There is no file {teacher}.",
                advice=("--teacher takes a registered teacher, a run, or a checkpoint.",),
            )
        )
    try:
        return TeacherReference(run_id=resolve_run_id(client, teacher))
    except CliError as error:
        names = ", ".join(registered) or "none"
        raise CliError(
            ErrorMessage(
                f"There is no teacher, run or file {teacher!r}.",
                advice=(f"Registered teachers: {names}.", *error.error_message.advice),
            )
        ) from error


def _register_file(checkpoint: Path) -> str:
    """Register a checkpoint with the card beside it, and return its name."""
    from service.cli.teachers import read_card, register_teacher

    card = read_card(checkpoint.with_suffix(".json"))
    register_teacher(card, checkpoint, replace=True)
    return str(card.get("name"))


def read_statistics(client: "TandemClient", dataset: str, *, data: str) -> "StatisticsView | None":
    """The statistics of the dataset, or None; `CliError` if there is no such dataset."""
    from service.client_transport import TandemApiError

    try:
        return client.dataset_statistics(dataset)
    except TandemApiError as error:
        if error.code == "statistics_not_found":
            return None
        if error.code != "dataset_not_found":
            raise
        raise CliError(_explain_missing_data(data)) from error


def _explain_missing_data(data: str) -> ErrorMessage:
    return ErrorMessage(
        f"There is no folder {data}, and no dataset of this name.",
        advice=("`tandem data list` shows the registered datasets.",),
    )


def build_experiment(
    dataset: str,
    choice: "PresetChoice",
    reference: TeacherReference,
    changes: "Mapping[str, JsonValue]",
    statistics: "StatisticsView | None",
) -> Experiment:
    """The runs on this dataset, with image size and epochs that suit it."""
    from service.cli.demo.choices import IMAGE_SIZE, choose_image_size, fit_changes

    size = None if IMAGE_SIZE in changes else choose_image_size(choice, statistics)
    return Experiment(
        name=dataset,
        dataset=dataset,
        teacher_preset=choice.teacher or "",
        distilled_preset=choice.distilled,
        teacher=reference.name,
        teacher_run=reference.run_id,
        changes=fit_changes(changes, dataset, choice, statistics),
        image_size=size,
    )


def _show_choices(
    client: "TandemClient", experiment: Experiment, choice: "PresetChoice", seeds: "Sequence[int]"
) -> None:
    """Print what would run, how to change each choice, and the findings of a plan."""
    from rich.markup import escape

    from service.api.schemas.runs import RunRequest
    from service.cli.views.plan import format_run_plan

    out = console.output()
    out.print(console.create_fields(describe_choices(experiment, choice, seeds)))
    is_trained = experiment.trains_teacher
    request = RunRequest(
        preset=experiment.teacher_preset if is_trained else experiment.distilled_preset,
        changes={
            **experiment.changes,
            **({} if is_trained else {"teacher": experiment.teacher_reference}),
        },
    )
    plan = client.plan(request)
    details = [
        f"{'The teacher' if is_trained else 'A student'}: {escape(line)}"
        for line in format_run_plan(plan)[:2]
    ]
    console.print_plan(plan.spec, plan.findings, details=details)


def describe_choices(
    experiment: Experiment, choice: "PresetChoice", seeds: "Sequence[int]"
) -> "dict[str, str]":
    """Each choice with its reason and the option that changes it, by a label."""
    from configs.catalog import spec_from_preset

    spec = spec_from_preset(experiment.distilled_preset, experiment.changes)
    size: ImageSizeChoice | None = experiment.image_size
    if experiment.trains_teacher:
        title = spec_from_preset(experiment.teacher_preset).student.title
        teacher = f"{title}, trained first ({experiment.teacher_preset}); --teacher takes another"
    else:
        teacher = f"{experiment.teacher or experiment.teacher_run}"
    edges = f"{spec.data.image_size[0]} x {spec.data.image_size[1]}"
    reason = f" ({size.reason})" if size else ""
    few = "; a verdict needs more than one, as in --seeds 0,1,2" if len(seeds) == 1 else ""
    return {
        "Teacher": teacher,
        "Student": f"{spec.student.title}, alone and distilled ({choice.distilled}: "
        f"{choice.reason}); --preset takes another",
        "Images": f"{edges} px{reason}; data.image_size=[640,480] changes it",
        "Epochs": f"{spec.schedule.epochs}; --epochs changes it",
        "Seeds": ", ".join(map(str, seeds)) + few,
        "Device": "GPU" if spec.resources.num_gpus else "CPU; resources.num_gpus=1 takes a GPU",
    }
