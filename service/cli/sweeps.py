"""`tandem sweep`, `sweeps`, `trials`, `stop`, `extend` and `promote`."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import AsJson
from service.cli.session import open_client, resolve_sweep_id

if TYPE_CHECKING:
    from rich.table import Table

    from service.api.schemas.sweeps import SweepRequest, SweepView
    from service.client import TandemClient

SweepPrefix = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The id, or enough of its beginning.")
]
Hours = Annotated[float | None, typer.Option(help="No new trial begins after so long.")]
GpuHours = Annotated[float | None, typer.Option(help="No new trial begins after so many.")]


Varied = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY=VALUE...",
        help="What to vary, as in distillation.cls_weight=loguniform:0.1,10 "
        "(uniform:a,b loguniform:a,b int:a,b choice:a,b,c; @KEY=VALUE: only then), "
        "and fields to change, as in schedule.epochs=6.",
    ),
]
First = Annotated[
    list[str] | None,
    typer.Option(
        metavar="'KEY=VALUE ...'", help="Values to try before any others; repeat it for more."
    ),
]
NoiseRuns = Annotated[
    int, typer.Option(help="Students alone, by seed, that the noise is known from.", min=0)
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (sweep, sweeps, trials, stop, extend, promote):
        app.command()(command)


def sweep(
    preset: Annotated[str, typer.Argument(help="What to launch_and_watch around.")],
    assignments: Varied,
    trials: Annotated[int, typer.Option(help="How many points to try.", min=1)] = 16,
    algorithm: Annotated[str, typer.Option(help="tpe, random, grid or coordinate.")] = "tpe",
    scheduler: Annotated[str, typer.Option(help="none, asha, hyperband or median.")] = "none",
    repeats: Annotated[int, typer.Option(help="Runs of each trial, by seed.", min=1)] = 1,
    objective: Annotated[
        list[str] | None, typer.Option(help="METRIC[:max|min]; repeat it for several.")
    ] = None,
    first: First = None,
    pack: Annotated[str, typer.Option(help="Trials with one teacher: auto, off or K.")] = "auto",
    concurrency: Annotated[int | None, typer.Option(help="Trials at the same time.")] = None,
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    seed: Annotated[int, typer.Option(help="Of the launch_and_watch.")] = 0,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    project: Annotated[str | None, typer.Option(help="Whose share of the cluster.")] = None,
    priority: Annotated[int, typer.Option(help="The larger goes first.")] = 0,
    baseline: Annotated[bool, typer.Option(help="Compare trials with the student alone.")] = True,
    noise_runs: NoiseRuns = 3,
    probe: Annotated[bool, typer.Option(help="Show first that every parameter matters.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what it would be.")] = False,
) -> None:
    """Search for the best values around a preset."""
    from service.api.schemas.sweeps import SweepRequest
    from service.cli.parsing import (
        parse_assignments,
        parse_changes,
        parse_kind,
        parse_objective,
        parse_pack,
    )

    wanted = parse_assignments(assignments)
    request = SweepRequest(
        preset=preset,
        changes=wanted.changes,
        space=wanted.space,
        algorithm=parse_kind(algorithm),
        scheduler=parse_kind(scheduler),
        objectives=[parse_objective(text) for text in objective] if objective else None,
        budget={"trials": trials, "hours": hours, "gpu_hours": gpu_hours},
        initial_points=[parse_changes(point.split()) for point in first or ()],
        repeats=repeats,
        baseline=baseline,
        noise_runs=noise_runs,
        pack=parse_pack(pack),
        concurrency=concurrency,
        probe=probe,
        seed=seed,
        name=name,
        project=project,
        priority=priority,
    )
    with open_client() as client:
        if plan:
            _plan(client, request)
            return
        launch_and_watch(client, request, watch=watch)


def launch_and_watch(client: "TandemClient", request: "SweepRequest", *, watch: bool) -> str | None:
    """Launch a sweep, and follow it; its id once it is over, else none."""
    launched = client.launch_sweep(request)
    console.output().print(f"Launched [bold]{launched.id}[/] (sweep of {launched.preset})")
    return launched.id if _followed(client, launched.id, watch=watch) else None


def sweeps(as_json: AsJson = False) -> None:
    """List sweeps, the newest first."""
    with open_client() as client:
        found = client.sweeps().items
    if as_json:
        console.print_json([item.model_dump(mode="json") for item in found])
        return
    if not found:
        console.output().print("No sweeps yet; `tandem sweep --help` says how to launch one.")
        return
    console.output().print(_sweeps_table(found))


def trials(sweep_id: SweepPrefix, as_json: AsJson = False) -> None:
    """Show a sweep and its trials: values, how far each is and how it ended."""
    from service.cli.progress.sweeps import build_trials_table, render_sweep_summary

    with open_client() as client:
        full = resolve_sweep_id(client, sweep_id)
        shown, found = client.sweep(full), client.trials(full)
    if as_json:
        document = shown.model_dump(mode="json")
        document["trial_details"] = [trial.model_dump(mode="json") for trial in found]
        console.print_json(document)
        return
    out = console.output()
    out.print(render_sweep_summary(shown))
    out.print(build_trials_table(shown, found))


def stop(sweep_id: SweepPrefix) -> None:
    """Begin no more trials and end those that go on; what they reached is kept."""
    with open_client() as client:
        found = client.stop_sweep(resolve_sweep_id(client, sweep_id))
    follows = "" if found.is_over else ": its trials leave, and a report follows"
    console.output().print(f"{found.id} is {console.format_state(found.state)}{follows}")


def extend(
    sweep_id: SweepPrefix,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Other bounds, as `tandem sweep` takes."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="How many more.", min=1)] = None,
    algorithm: Annotated[str | None, typer.Option(help="Another one from now on.")] = None,
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
) -> None:
    """Have a sweep that is over search on: more trials, other bounds, another algorithm."""
    from service.api.schemas.sweeps import ExtendRequest
    from service.cli.errors import CliError, ErrorMessage
    from service.cli.parsing import parse_assignments, parse_kind

    wanted = parse_assignments(assignments or ())
    if wanted.changes:
        advice = ("Only what is swept can have other bounds, as in KEY=uniform:0.5,2.",)
        raise CliError(ErrorMessage(f"{min(wanted.changes)} is no parameter.", advice=advice))
    with open_client() as client:
        full = resolve_sweep_id(client, sweep_id)
        known = client.sweep(full).spec.model_dump(mode="json")["space"]
        request = ExtendRequest(
            trials=trials,
            hours=hours,
            gpu_hours=gpu_hours,
            space={**known, **wanted.space} if wanted.space else None,
            algorithm=None if algorithm is None else parse_kind(algorithm),
        )
        extended = client.extend_sweep(full, request)
        console.output().print(f"{extended.id} is {console.format_state(extended.state)} again")
        _followed(client, full, watch=watch)


def promote(
    sweep_id: SweepPrefix,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes, as in schedule.epochs=24."),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Another one than the best.", min=0)] = None,
    name: Annotated[str | None, typer.Option(help="What to call the run.")] = None,
    priority: Annotated[int, typer.Option(help="The larger goes first.")] = 0,
) -> None:
    """Launch the best trial as a run of its own, perhaps for the full schedule."""
    from service.api.schemas.sweeps import PromoteRequest
    from service.cli.parsing import parse_changes

    request = PromoteRequest(
        trial=trial, changes=parse_changes(changes or ()), name=name, priority=priority
    )
    with open_client() as client:
        launched = client.promote(resolve_sweep_id(client, sweep_id), request)
    console.output().print(f"Launched [bold]{launched.id}[/] ({launched.name})")
    console.output().print(f"`tandem logs -f {launched.id}` follows it.")


def _followed(client: "TandemClient", sweep_id: str, *, watch: bool) -> bool:
    """Whether it is over."""
    from service.cli.progress.sweeps import watch_sweep

    how_to_come_back = (
        f"`tandem trials {sweep_id}` shows it, `tandem stop {sweep_id}` ends it, "
        f"`tandem report {sweep_id}` tells what came of it."
    )
    if not watch:
        console.output().print(how_to_come_back)
        return False
    try:
        ended = watch_sweep(client, sweep_id)
    except KeyboardInterrupt:
        console.output().print(f"The sweep goes on. {how_to_come_back}")
        return False
    _tell_end(client, ended)
    return True


def _tell_end(client: "TandemClient", ended: "SweepView") -> None:
    from service.cli.errors import CliError, ErrorMessage
    from service.cli.progress.sweeps import format_best_trial

    if ended.state == "failed":
        raise CliError(ErrorMessage(f"{ended.id} failed: {ended.message}"))
    out = console.output()
    out.print(f"best: {format_best_trial(ended)}", soft_wrap=True)
    out.print(f"report: {client.url}{client.report_path(ended.id)}", soft_wrap=True)
    if ended.mlflow_url:
        out.print(f"MLflow: {ended.mlflow_url}", soft_wrap=True)


def _plan(client: "TandemClient", request: "SweepRequest") -> None:
    import yaml
    from rich.markup import escape

    planned = client.plan_sweep(request)
    typer.echo(yaml.safe_dump(planned.spec.model_dump(mode="json"), sort_keys=False), nl=False)
    out = console.output()
    for finding in planned.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        out.print(
            f"[{colour}]{finding.severity}[/] {finding.field or 'spec'}: {escape(finding.message)}"
        )
    out.print(f"Up to {planned.trials} trials, {planned.runs} runs.")
    if any(finding.severity == "error" for finding in planned.findings):
        raise typer.Exit(1)


def _sweeps_table(found: "list[SweepView]") -> "Table":
    from rich.markup import escape

    from service.cli.progress.sweeps import format_metric_value

    shown = console.table("id", "name", "state", "trials", "best", "launched", folding=("name",))
    for item in found:
        metric = item.spec.objectives[0].metric
        shown.add_row(
            item.id,
            escape(item.name),
            console.format_state(item.state),
            f"{item.trials}/{item.spec.budget.trials}",
            "-" if item.best is None else format_metric_value(metric, item.best.objective),
            console.format_time(item.created_at)[:-3],
        )
    return shown
