"""`tandem autopilot`: launches an autopilot, and follows it or shows its plan."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.autopilots.parsing import parse_budget, parse_latency_ms, parse_teachers
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from service.cli.demo.choices import PresetChoice
    from service.client import TandemClient

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the autopilot.")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change, e.g. schedule.epochs=24."),
]
Data = Annotated[str, typer.Option("--data", metavar="DATASET", help="A registered dataset.")]
Budget = Annotated[
    str, typer.Option(metavar="AMOUNT", help="6h or 90min by the clock, 12gpu-h, or price:25.")
]
Preset = Annotated[
    str | None, typer.Option(help="Preset of the distilled student; by default by the data.")
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        help="A registered teacher; may be repeated. auto: all with the classes, or else a "
        "larger one is trained.",
    ),
]
TrainedTeachers = Annotated[
    list[str] | None,
    typer.Option("--train-teacher", help="A backbone to train as a teacher; may be repeated."),
]
Methods = Annotated[
    str | None, typer.Option(help="Distillation methods, e.g. bckd,pkd; by default all that fit.")
]
Students = Annotated[
    str | None,
    typer.Option(help="Backbones, e.g. resnet18,efficientnet_lite0; by default the preset's."),
]
Schedules = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Another schedule to try for the student alone; may be repeated.",
    ),
]
Latency = Annotated[
    str | None, typer.Option(metavar="20ms", help="Train no student that is slower than this.")
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Only time the students, show the plan, and wait for `resume`."),
]


def autopilot(
    name: Name,
    data: Data,
    budget: Budget,
    changes: Changes = None,
    preset: Preset = None,
    teacher: Teachers = None,
    train_teacher: TrainedTeachers = None,
    students: Students = None,
    methods: Methods = None,
    schedule: Schedules = None,
    latency: Latency = None,
    plan: PlanOnly = False,
    project: Annotated[str | None, typer.Option(help="Project of its runs.")] = None,
    priority: Annotated[int, typer.Option(help="Larger values start first.")] = 0,
    as_json: console.AsJson = False,
) -> None:
    """Find the best student for a dataset within a budget, and whether a teacher helps it."""
    from service.api.schemas.autopilots import AutopilotLaunchRequest
    from service.cli.demo.choices import choose_preset
    from service.cli.parsing import parse_changes

    amount = parse_budget(budget)
    choice = choose_preset(data, preset)
    teachers = parse_teachers(teacher or ())
    # The teacher that a preset names knows the classes of the preset's own dataset.
    default = None if choice.is_for_dataset or train_teacher else "auto"
    parsed = parse_changes(changes or ())
    with open_client() as client:
        request = AutopilotLaunchRequest(
            preset=choice.distilled,
            changes=_fit_to_dataset(client, data, choice, parsed),
            budget=amount,
            teachers=teachers or default,
            trained_teachers=train_teacher or [],
            students=_split_names(students),
            methods=_split_names(methods),
            schedules=[parse_changes(text.split(",")) for text in schedule or ()],
            max_latency_ms=None if latency is None else parse_latency_ms(latency),
            paused=plan,
            name=name,
            project=project,
            priority=priority,
        )
        launched = client.launch_autopilot(request)
        if not as_json:
            console.output().print(f"Launched [bold]{launched.id}[/] (preset {choice.distilled})")
        if plan:
            _show_plan(client, launched.id, as_json=as_json)
        elif as_json:
            console.print_json(launched)
        else:
            follow(client, launched.id)


def follow(client: "TandemClient", autopilot_id: str) -> None:
    """Show an autopilot until it is over; Ctrl-C leaves it running. Raises `CliError` if it
    fails."""
    from service.cli.progress.autopilots import watch_autopilot
    from service.cli.views.autopilots import print_conclusion

    try:
        ended = watch_autopilot(client, autopilot_id)
    except KeyboardInterrupt:
        console.output().print(
            f"The autopilot continues. `tandem show {autopilot_id}` shows it, "
            f"`tandem pause {autopilot_id}` pauses it, `tandem stop {autopilot_id}` stops it."
        )
        return
    if ended.phase == "failed":
        raise CliError(ErrorMessage(f"{ended.id} failed: {ended.message}"))
    print_conclusion(ended)


def _fit_to_dataset(
    client: "TandemClient",
    dataset: str,
    choice: "PresetChoice",
    changes: "Mapping[str, JsonValue]",
) -> "dict[str, JsonValue]":
    """The changes with image size and epochs that suit the dataset, unless its preset has them."""
    from service.cli.demo.choices import fit_changes
    from service.cli.demo.own_data import read_statistics

    statistics = None
    if not choice.is_for_dataset:
        statistics = read_statistics(client, dataset, data=dataset)
    return fit_changes(changes, dataset, choice, statistics)


def _split_names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _show_plan(client: "TandemClient", autopilot_id: str, *, as_json: bool) -> None:
    """Wait for the probes, and print the plan. Raises `CliError` if there is none."""
    from service.cli.progress.autopilots import wait_for_plan
    from service.cli.views.autopilots import print_plan

    try:
        view = wait_for_plan(client, autopilot_id)
    except KeyboardInterrupt:
        console.error_output().print(
            f"Its probes continue. `tandem show {autopilot_id}` shows the plan after them."
        )
        return
    if view.plan is None:
        raise CliError(ErrorMessage(f"{view.id} has no plan: {view.message}"))
    if as_json:
        console.print_json(view)
        return
    print_plan(view)
    console.output().print(
        f"Nothing but its probes was spent. `tandem resume {view.id}` starts it, "
        f"`tandem stop {view.id}` drops it."
    )
