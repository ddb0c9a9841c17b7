"""`tandem sweep`, `sweeps`, `trials`, `stop`, `extend` and `promote`: searches."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client, resolve_sweep_id

if TYPE_CHECKING:
    from service.api.schemas.sweeps import SweepRequest, SweepView
    from service.cli.console.tables import OutputTable
    from service.client import TandemClient

SweepPrefix = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The id, or a unique prefix of it.")
]
SearchPrefix = Annotated[
    str, typer.Argument(metavar="SWEEP|AUTOPILOT", help="The id, or a unique prefix of it.")
]
MoreBudget = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", help="Of an autopilot: 2h, 12gpu-h or price:25 more."),
]
Hours = Annotated[float | None, typer.Option(help="Start no new trial after so many hours.")]
GpuHours = Annotated[float | None, typer.Option(help="Start no new trial after so many GPU hours.")]

AssignmentArgs = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY=VALUE...",
        help="Parameters, e.g. distillation.cls_weight=loguniform:0.1,10 "
        "(uniform:a,b loguniform:a,b int:a,b choice:a,b,c; conditional with @KEY=VALUE), "
        "and fields to change, e.g. schedule.epochs=6.",
    ),
]
InitialPoints = Annotated[
    list[str] | None,
    typer.Option(metavar="'KEY=VALUE ...'", help="Values to try first; may be repeated."),
]
NoiseRuns = Annotated[
    int, typer.Option(help="Baselines with different seeds, to measure the noise floor.", min=0)
]

Objectives = Annotated[list[str] | None, typer.Option(help="METRIC[:max|min]; may be repeated.")]
PackSize = Annotated[
    str, typer.Option(help="Trials per process with one teacher: auto, off or a number.")
]
WithProbe = Annotated[bool, typer.Option(help="Check first that every parameter has an effect.")]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Launch nothing; show trials, runs and findings.")
]


Watch = Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")]


def sweep(
    preset: Annotated[str, typer.Argument(help="The preset to search around.")],
    assignments: AssignmentArgs,
    trials: Annotated[int, typer.Option(help="Number of trials.", min=1)] = 16,
    algorithm: Annotated[str, typer.Option(help="tpe, random, grid or coordinate.")] = "tpe",
    scheduler: Annotated[str, typer.Option(help="none, asha, hyperband or median.")] = "none",
    repeats: Annotated[int, typer.Option(help="Runs per trial, with different seeds.", min=1)] = 1,
    objective: Objectives = None,
    initial_point: InitialPoints = None,
    pack: PackSize = "auto",
    concurrency: Annotated[int | None, typer.Option(help="Maximum of concurrent trials.")] = None,
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the sweep.")] = None,
    project: Annotated[str | None, typer.Option(help="Project of the sweep.")] = None,
    priority: Annotated[int, typer.Option(help="Larger values start first.")] = 0,
    baseline: Annotated[bool, typer.Option(help="Compare trials with a baseline.")] = True,
    noise_runs: NoiseRuns = 3,
    probe: WithProbe = True,
    watch: Watch = False,
    plan: PlanOnly = False,
    with_spec: console.WithSpec = False,
    as_json: console.AsJson = False,
) -> None:
    """Search for the best values around a preset."""
    from service.api.schemas.sweeps import SweepRequest
    from service.cli import parsing

    if watch and as_json:
        raise CliError(ErrorMessage("--watch prints progress; leave out --watch or --json."))
    parsed = parsing.parse_assignments(assignments)
    request = SweepRequest(
        preset=preset,
        changes=parsed.changes,
        space=parsed.space,
        algorithm=parsing.parse_kind(algorithm),
        scheduler=parsing.parse_kind(scheduler),
        objectives=[parsing.parse_objective(text) for text in objective] if objective else None,
        budget={"trials": trials, "hours": hours, "gpu_hours": gpu_hours},
        initial_points=[parsing.parse_changes(point.split()) for point in initial_point or ()],
        repeats=repeats,
        baseline=baseline,
        noise_runs=noise_runs,
        pack=parsing.parse_pack(pack),
        concurrency=concurrency,
        probe=probe,
        seed=seed,
        name=name,
        project=project,
        priority=priority,
    )
    with open_client() as client:
        if plan:
            _show_plan(client, request, with_spec=with_spec, as_json=as_json)
        elif as_json:
            console.print_json(client.launch_sweep(request))
        else:
            launch_and_watch(client, request, watch=watch)


def launch_and_watch(client: "TandemClient", request: "SweepRequest", *, watch: bool) -> str | None:
    """Launch a sweep; return its id once it is over, None if it is not watched to its end."""
    launched = client.launch_sweep(request)
    console.output().print(f"Launched [bold]{launched.id}[/] (sweep of {launched.preset})")
    return launched.id if _watch(client, launched.id, watch=watch) else None


def sweeps(as_json: console.AsJson = False) -> None:
    """List sweeps, the newest first."""
    with open_client() as client:
        views = client.sweeps().items
    if as_json:
        console.print_json(views)
        return
    if not views:
        console.output().print("No sweeps yet; `tandem sweep --help` shows how to launch one.")
        return
    console.output().print(_build_sweeps_table(views))


def trials(sweep_id: SweepPrefix, as_json: console.AsJson = False) -> None:
    """Show a sweep and its trials: values, progress and results."""
    from service.cli.progress.sweeps import build_trials_table, render_sweep_summary

    with open_client() as client:
        full_id = resolve_sweep_id(client, sweep_id)
        view, trial_views = client.sweep(full_id), client.trials(full_id)
    if as_json:
        console.print_json({**view.model_dump(), "trial_details": trial_views})
        return
    out = console.output()
    out.print(render_sweep_summary(view))
    out.print(build_trials_table(view, trial_views))


def stop(sweep_id: SearchPrefix, as_json: console.AsJson = False) -> None:
    """Stop a sweep or an autopilot with its runs; their results are kept."""
    from service.domain.ids import is_autopilot_id

    if is_autopilot_id(sweep_id):
        from service.cli.autopilots.actions import stop_autopilot

        stop_autopilot(sweep_id, as_json=as_json)
        return
    with open_client() as client:
        view = client.stop_sweep(resolve_sweep_id(client, sweep_id))
    if as_json:
        console.print_json(view)
        return
    suffix = "" if view.is_over else ": its trials stop, and a report follows"
    console.output().print(f"{view.id} is {console.format_state(view.state)}{suffix}")


def extend(
    sweep_id: SearchPrefix,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="New bounds, in the syntax of `tandem sweep`."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of additional trials.", min=1)] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Algorithm for the additional trials.")
    ] = None,
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    budget: MoreBudget = None,
    watch: Watch = False,
    as_json: console.AsJson = False,
) -> None:
    """Continue a finished sweep with more trials or other bounds, or an autopilot with more
    budget."""
    from service.api.schemas.sweeps import ExtendRequest
    from service.cli.parsing import parse_assignments, parse_kind
    from service.domain.ids import is_autopilot_id

    if watch and as_json:
        raise CliError(ErrorMessage("--watch prints progress; leave out --watch or --json."))
    if is_autopilot_id(sweep_id):
        _extend_autopilot(
            sweep_id,
            budget,
            sweep_options=(assignments, trials, algorithm, hours, gpu_hours),
            watch=watch,
            as_json=as_json,
        )
        return
    if budget is not None:
        advice = ("A sweep is extended by --trials, --hours or --gpu-hours.",)
        raise CliError(ErrorMessage("--budget is for autopilots.", advice=advice))
    parsed = parse_assignments(assignments or ())
    if parsed.changes:
        advice = ("Only swept parameters can get new bounds, e.g. KEY=uniform:0.5,2.",)
        raise CliError(
            ErrorMessage(f"{min(parsed.changes)} is not a parameter of the sweep.", advice=advice)
        )
    with open_client() as client:
        full_id = resolve_sweep_id(client, sweep_id)
        space = client.sweep(full_id).spec.model_dump(mode="json")["space"]
        request = ExtendRequest(
            trials=trials,
            hours=hours,
            gpu_hours=gpu_hours,
            space={**space, **parsed.space} if parsed.space else None,
            algorithm=None if algorithm is None else parse_kind(algorithm),
        )
        extended = client.extend_sweep(full_id, request)
        if as_json:
            console.print_json(extended)
            return
        console.output().print(f"{extended.id} is {console.format_state(extended.state)} again")
        _watch(client, full_id, watch=watch)


def promote(
    sweep_id: SweepPrefix,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change, e.g. schedule.epochs=24."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of the trial; the best one by default.", min=0)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    priority: Annotated[int, typer.Option(help="Larger values start first.")] = 0,
    as_json: console.AsJson = False,
) -> None:
    """Launch a trial as a separate run, the best one by default, e.g. with more epochs."""
    from service.api.schemas.sweeps import PromoteRequest
    from service.cli.parsing import parse_changes

    request = PromoteRequest(
        trial=trial, changes=parse_changes(changes or ()), name=name, priority=priority
    )
    with open_client() as client:
        launched = client.promote(resolve_sweep_id(client, sweep_id), request)
    if as_json:
        console.print_json(launched)
        return
    console.output().print(f"Launched [bold]{launched.id}[/] ({launched.name})")
    console.output().print(f"`tandem logs -f {launched.id}` follows its log.")


def _extend_autopilot(
    id_prefix: str,
    budget: str | None,
    *,
    sweep_options: tuple[object, ...],
    watch: bool,
    as_json: bool,
) -> None:
    """Grant more budget; the options that only sweeps have are refused."""
    from service.cli.autopilots.actions import extend_autopilot

    if any(sweep_options):
        advice = ("Leave out everything but --budget, --watch and --json.",)
        raise CliError(ErrorMessage("An autopilot is extended by --budget alone.", advice=advice))
    extend_autopilot(id_prefix, budget, watch=watch, as_json=as_json)


def _watch(client: "TandemClient", sweep_id: str, *, watch: bool) -> bool:
    """Watch a sweep if asked to; return whether it is over."""
    from service.cli.progress.sweeps import watch_sweep

    hint = (
        f"`tandem trials {sweep_id}` shows it, `tandem stop {sweep_id}` stops it, "
        f"`tandem report {sweep_id}` shows its report."
    )
    if not watch:
        console.output().print(hint)
        return False
    try:
        ended = watch_sweep(client, sweep_id)
    except KeyboardInterrupt:
        console.output().print(f"The sweep continues. {hint}")
        return False
    _print_result(client, ended)
    return True


def _print_result(client: "TandemClient", ended: "SweepView") -> None:
    from rich.markup import escape

    from service.cli.progress.sweeps import format_best_trial

    if ended.state == "failed":
        raise CliError(ErrorMessage(f"{ended.id} failed: {ended.message}"))
    out = console.output()
    out.print(
        console.create_fields(
            {
                "best": escape(format_best_trial(ended)),
                "report": escape(f"{client.url}{client.report_path(ended.id)}"),
                "MLflow": escape(ended.mlflow_url or ""),
            }
        )
    )


def _show_plan(
    client: "TandemClient", request: "SweepRequest", *, with_spec: bool, as_json: bool
) -> None:
    from service.cli.views.plan import format_sweep_plan

    plan = client.plan_sweep(request)
    if as_json:
        console.print_json(plan)
        console.fail_on_errors(plan.findings)
        return
    console.print_plan(
        plan.spec, plan.findings, details=format_sweep_plan(plan), with_spec=with_spec
    )


def _build_sweeps_table(views: "list[SweepView]") -> "OutputTable":
    from rich.markup import escape

    table = console.create_table(
        *("id", "name", "state", "trials", "best", "launched"),
        folding=("name",),
        numbers=("trials", "best"),
    )
    for item in views:
        metric = item.spec.objectives[0].metric
        table.add_row(
            item.id,
            escape(item.name),
            console.format_state(item.state),
            f"{item.trials}/{item.spec.budget.trials}",
            "-" if item.best is None else console.format_metric(metric, item.best.objective),
            console.format_time(item.created_at)[:-3],
        )
    return table
