"""`tandem run`, `runs`, `show` and `logs`: launch and inspect runs."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import list_all_runs, open_client, open_reader, resolve_run_id
from service.domain.states import RunState

if TYPE_CHECKING:
    from configs.spec.base import TeacherControl
    from service.api.schemas.run_lists import RunPage, RunQuery
    from service.api.schemas.runs import RunRequest, RunView
    from service.client import TandemClient

_DEFAULT_LIMIT = 50
_NUM_LOG_LINES = 50

RunPrefix = Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique prefix of it.")]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Show progress until it ends; Ctrl-C leaves it running."),
]
AsJson = console.AsJson


class TaskName(StrEnum):
    """The tasks of runs in the API, without the import of their specs."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPORT = "export"
    PROBE = "probe"
    REPORT = "report"


LISTED_TASKS = (TaskName.TRAIN, TaskName.EVALUATE, TaskName.EXPORT)
"""What people launch; Tandem adds probes and reports by itself."""


class ControlName(StrEnum):
    """The controls of the API, without the import of its specs."""

    RANDOM_TEACHER = "random_teacher"
    SHUFFLED_TEACHER = "shuffled_teacher"


Controls = Annotated[
    list[ControlName] | None,
    typer.Option(help="Also train with a teacher that cannot help; may be repeated."),
]


class RunSort(StrEnum):
    """Orders of the list of runs."""

    NEWEST = "newest"
    MAP = "map"


def run(
    preset: Annotated[str, typer.Argument(help="A preset; `tandem presets` lists them.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change, e.g. schedule.epochs=3."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    project: Annotated[str | None, typer.Option(help="Project of the run.")] = None,
    priority: Annotated[int, typer.Option(help="Larger values start first.")] = 0,
    watch: Watch = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show steps, time, baseline and findings.")
    ] = False,
    with_spec: console.WithSpec = False,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Train and compare no baseline.")
    ] = False,
    control: Controls = None,
    pack: Annotated[
        bool,
        typer.Option("--pack", help="Train the run and its new baseline in one process."),
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Launch a run from a preset; a distilled run gets a baseline to compare it with."""
    from service.api.schemas.runs import RunRequest
    from service.cli.parsing import parse_changes

    request = RunRequest(
        preset=preset,
        changes=parse_changes(changes or ()),
        name=name,
        project=project,
        priority=priority,
        baseline="off" if no_baseline else "auto",
        controls=list_controls(control),
        pack=pack,
    )
    if with_spec and not plan:
        raise CliError(
            ErrorMessage("--spec has no effect without --plan.", advice=("Add --plan.",))
        )
    with open_client() as client:
        if plan:
            _show_plan(client, request, with_spec=with_spec, as_json=as_json)
            return
        launched = client.launch(request)
        if not as_json:
            _print_launch(launched, watch=watch)
        finish_launch(client, launched, watch=watch, as_json=as_json)


def list_controls(names: list[ControlName] | None) -> "tuple[TeacherControl, ...]":
    """The controls of an option, as requests have them."""
    return tuple(name.value for name in names or ())


def runs(
    state: Annotated[
        list[RunState] | None, typer.Option(help="Only runs in this state; may be repeated.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Only runs of this project.")] = None,
    preset: Annotated[str | None, typer.Option(help="Only runs of this preset.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this dataset.")] = None,
    task: Annotated[
        list[TaskName] | None,
        typer.Option(
            help="Only runs of this task; may be repeated. Default: all that people launch."
        ),
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all-tasks", help="Also reports and probes, which Tandem adds.")
    ] = False,
    sort: Annotated[
        RunSort, typer.Option(help="map: the highest mAP first; runs without one are left out.")
    ] = RunSort.NEWEST,
    all_: Annotated[
        bool, typer.Option("--all", help=f"All that match, not only the first {_DEFAULT_LIMIT}.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """List trainings, evaluations and exports, the newest first."""
    from service.api.schemas.run_lists import RunPage, RunQuery

    query = RunQuery.model_validate(
        {
            "state": state or (),
            "task": [] if all_tasks else [item.value for item in task or LISTED_TASKS],
            "project": project,
            "preset": preset,
            "dataset": dataset,
            "sort": "best_map" if sort is RunSort.MAP else "newest",
            "limit": _DEFAULT_LIMIT,
        }
    )
    with open_reader() as client:
        page = (
            RunPage(items=list_all_runs(client, query), next_cursor=None)
            if all_
            else client.runs(query)
        )
    if as_json:
        console.print_json(page.items)
        return
    _print_page(page, query, has_task_filter=bool(task))


def show(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Show a run or an autopilot; of a failed run also the end of its log."""
    from service.api.schemas.run_details import LogQuery
    from service.domain.ids import is_autopilot_id

    if is_autopilot_id(run_id):
        from service.cli.autopilots.actions import show_autopilot

        show_autopilot(run_id, as_json=as_json)
        return
    with open_reader() as client:
        full_id = resolve_run_id(client, run_id)
        events = client.events(full_id)
        if as_json:
            console.print_json({**client.run_document(full_id), "events": events})
            return
        run = client.run_details(full_id)
        noise = client.noise(full_id).noise if run.task == "train" else None
        has_failed = run.state == "failed" or (run.reason is not None)
        log = client.logs(full_id, LogQuery(tail=_NUM_LOG_LINES)) if has_failed else ""
    from rich.text import Text

    from service.cli.views.run_details import build_details, build_events_table

    out = console.output()
    out.print(build_details(run, noise))
    out.print()
    out.print(build_events_table(events))
    for line in log.splitlines():
        out.print(Text(f"  │ {line}", style="dim"), soft_wrap=True)


def logs(
    run_id: RunPrefix,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")
    ] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last N lines.", min=1)] = None,
    search: Annotated[str | None, typer.Option(help="Only lines that contain this text.")] = None,
    attempt: Annotated[int | None, typer.Option(help="Only lines of this attempt.", min=1)] = None,
    as_json: console.AsJson = False,
) -> None:
    """Print the log of a run: epoch, step and time left, losses, mAP, failures."""
    from service.api.schemas.run_details import LogQuery

    if follow and as_json:
        raise CliError(ErrorMessage("--follow prints text as it comes; leave out --json."))
    with open_client() as client:
        full_id = resolve_run_id(client, run_id)
        if follow:
            _follow_log(client, full_id)
            return
        query = LogQuery(tail=tail, search=search, attempt=attempt)
        if not as_json:
            for text in client.iter_logs(full_id, query):
                typer.echo(text, nl=False)
            return
        lines = client.logs(full_id, query).splitlines()
    console.print_json({"run_id": full_id, "lines": [*lines]})


def _follow_log(client: "TandemClient", run_id: str) -> None:
    try:
        for text in client.follow_logs(run_id):
            typer.echo(text, nl=False)
    except KeyboardInterrupt:
        console.error_output().print(f"\nThe run continues; `tandem cancel {run_id}` cancels it.")


def watch_run(client: "TandemClient", run_id: str, *, is_quiet: bool = False) -> "RunView | None":
    """Watch a run until it succeeds; raise `CliError` if it fails.

    Return None if the user interrupts the watching; the run continues. `is_quiet` prints no
    progress.
    """
    from service.cli.progress.runs import watch_runs

    try:
        (ended,) = watch_runs(client, {"run": run_id}, is_quiet=is_quiet).values()
    except KeyboardInterrupt:
        console.error_output().print(
            f"The run continues. `tandem logs -f {run_id}` follows its log, "
            f"`tandem cancel {run_id}` cancels it."
        )
        return None
    if ended.state != "succeeded":
        cause = ended.message or ended.reason or "unknown cause"
        log = f"Its log: tandem logs {ended.id}"
        raise CliError(
            ErrorMessage(f"{ended.id} {ended.state}: {cause}", advice=(ended.advice or "", log))
        )
    return ended


def finish_launch(
    client: "TandemClient", launched: "RunView", *, watch: bool, as_json: bool
) -> None:
    """Watch a run to its end if asked to, and print its result; as JSON the run as it is then."""
    from service.cli.views.run_result import print_run_result

    ended = watch_run(client, launched.id, is_quiet=as_json) if watch else None
    if as_json:
        console.print_json(ended or launched)
    elif ended is not None:
        print_run_result(client, ended)


def _print_launch(launched: "RunView", *, watch: bool) -> None:
    out = console.output()
    out.print(f"Launched [bold]{launched.id}[/] ({launched.preset})")
    if launched.baseline_run_id:
        out.print(f"Its baseline is {launched.baseline_run_id}.")
    if not watch:
        out.print(
            f"`tandem logs -f {launched.id}` follows its log, `tandem show {launched.id}` shows "
            "its state and result."
        )


def _print_page(page: "RunPage", query: "RunQuery", *, has_task_filter: bool) -> None:
    from service.cli.views.run_table import build_runs_table

    out = console.output()
    if not page.items:
        out.print(_explain_empty_page(query, has_task_filter=has_task_filter))
        return
    out.print(build_runs_table(page.items, width=out.width))
    if page.next_cursor is not None:
        console.error_output().print(
            f"Only the first {len(page.items)}; `tandem runs --all` lists all that match."
        )


def _explain_empty_page(query: "RunQuery", *, has_task_filter: bool) -> str:
    from rich.markup import escape

    filters = [
        *(f"--state {state}" for state in query.state),
        *(f"--task {task}" for task in query.task if has_task_filter),
        *(
            f"--{name} {value}"
            for name in ("project", "preset", "dataset")
            if (value := getattr(query, name)) is not None
        ),
        *(["--sort map"] if query.sort == "best_map" else []),
    ]
    if not filters:
        return "No runs yet; `tandem run quick/instant` launches one."
    return f"No run matches {escape(' '.join(filters))}."


def _show_plan(
    client: "TandemClient", request: "RunRequest", *, with_spec: bool = False, as_json: bool = False
) -> None:
    from service.cli.views.plan import format_run_plan

    plan = client.plan(request)
    if as_json:
        console.print_json(plan)
        if any(finding.severity == "error" for finding in plan.findings):
            raise typer.Exit(1)
        return
    console.print_plan(plan.spec, plan.findings, details=format_run_plan(plan), with_spec=with_spec)
    if not with_spec:
        console.output().print("`--spec` adds the complete spec.")
