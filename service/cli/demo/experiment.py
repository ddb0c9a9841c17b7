"""Does distillation help? A teacher, a student alone and the same student taught, side by side."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, open_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from service.api.schemas.runs import RunRequest, RunView
    from service.cli.demo.summary import StudentPair
    from service.client import TandemClient


_REPORT_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Experiment:
    """Presets of a teacher and of a distilled student, on one dataset."""

    name: str
    dataset: str
    teacher_preset: str
    distilled_preset: str
    """The student alone, its baseline, follows from it and is booked with each run."""

    teacher: str | None
    """A registered teacher; `None`: it is trained first."""

    is_packed: bool = False
    """Whether each distilled student trains in one process with its baseline."""

    changes: "Mapping[str, JsonValue]" = field(default_factory=dict)
    """Fields that differ from the presets in every run, by their dotted names."""


@dataclass(frozen=True)
class _Launched:
    """The runs of a story by what they are called on screen."""

    run_ids: "dict[str, str]"
    teacher_label: str | None
    pairs: tuple[tuple[int, str, str], ...]
    """Seed, label of the student alone, label of the student with BCKD."""

    @property
    def last_distilled(self) -> str:
        """The run whose report is read: the last one that was launched with BCKD."""
        return self.run_ids[self.pairs[-1][2]]


def run_experiment(
    experiment: Experiment, *, seeds: tuple[int, ...], fresh: bool, page: Path | None = None
) -> None:
    """Launch the runs over REST, follow them, and end with a table, the conclusion and the URLs.

    `fresh` trains again what was trained before; `page` is where the report is written.
    """
    with open_client() as client:
        launched = _launch(client, experiment, seeds=seeds, fresh=fresh)
        try:
            views = _follow(client, launched)
        except KeyboardInterrupt:
            console.output().print(
                "The runs go on. `tandem runs` lists them, `tandem down` stops all."
            )
            raise typer.Exit(130) from None
        _report(client, launched, views)
        if page is not None:
            _write_page(client, launched, page)


def _launch(
    client: "TandemClient", experiment: Experiment, *, seeds: tuple[int, ...], fresh: bool
) -> _Launched:
    run_ids: dict[str, str] = {}
    teacher_label: str | None = None
    reference: dict[str, JsonValue] = {"name": experiment.teacher}
    if experiment.teacher is None:
        teacher_label = "teacher"
        trained = _launch_once(
            client, experiment, experiment.teacher_preset, "teacher", fresh=fresh
        )
        run_ids[teacher_label] = trained.id
        reference = {"run": trained.id}
    pairs: list[tuple[int, str, str]] = []
    for seed in seeds:
        suffix = f", seed {seed}" if len(seeds) > 1 else ""
        alone, taught = f"alone{suffix}", f"with BCKD{suffix}"
        distilled = _launch_once(
            client,
            experiment,
            experiment.distilled_preset,
            f"BCKD, seed {seed}",
            changes={"seed": seed, "teacher": reference},
            fresh=fresh,
        )
        assert distilled.baseline_run_id is not None, "a distilled run is booked with its baseline"
        run_ids |= {alone: distilled.baseline_run_id, taught: distilled.id}
        pairs.append((seed, alone, taught))
    return _Launched(run_ids, teacher_label, tuple(pairs))


def _launch_once(
    client: "TandemClient",
    experiment: Experiment,
    preset: str,
    label: str,
    *,
    fresh: bool,
    changes: "Mapping[str, JsonValue] | None" = None,
) -> "RunView":
    """The run that has this very spec already, or a new one; never one that ended badly."""
    from uuid import uuid4

    from service.api.schemas.runs import RunRequest

    name = f"{experiment.name}: {label}"
    request = RunRequest(
        preset=preset,
        changes={**experiment.changes, **(changes or {})},
        name=name,
        pack=experiment.is_packed and preset == experiment.distilled_preset,
    )
    key = uuid4().hex if fresh else f"{experiment.name}-{_digest(client, request, experiment)}"
    launched = client.launch(request, idempotency_key=key)
    if launched.is_over and launched.state != "succeeded":
        launched = client.launch(request, idempotency_key=uuid4().hex)
    elif launched.is_over:
        console.output().print(
            f"{name}: {launched.id} has trained before; --fresh trains it again."
        )
    return launched


def _digest(client: "TandemClient", request: "RunRequest", experiment: Experiment) -> str:
    """What a run would be: the same story finds its runs again, a changed one does not."""
    from hashlib import sha256

    parts = [
        request.model_dump_json(),
        client.plan(request).spec.model_dump_json(),
        *(
            f"{item.name} {item.manifest.digest}"
            for item in client.datasets()
            if item.name == experiment.dataset
        ),
        *(
            f"{item.name} {item.sha256}"
            for item in client.teachers()
            if item.name == experiment.teacher
        ),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _follow(client: "TandemClient", launched: _Launched) -> "dict[str, RunView]":
    from service.cli.progress.runs import watch_runs

    out = console.output()
    out.print(f"Follow the curves in MLflow: {load_settings().mlflow_url}")
    views = watch_runs(client, launched.run_ids)
    for label, view in views.items():
        if view.is_over and view.state != "succeeded":
            raise CliError(
                ErrorMessage(
                    f"{label} ({view.id}) {view.state}: {view.message or view.reason or '?'}",
                    advice=(view.advice or "", f"Its log: tandem logs {view.id}"),
                    log_lines=tuple(client.logs(view.id).splitlines()[-15:]),
                )
            )
    return views


def _report(client: "TandemClient", launched: _Launched, views: "Mapping[str, RunView]") -> None:
    from service.cli.comparisons import show_verdict
    from service.cli.demo.summary import (
        build_comparison_url,
        build_summary_table,
        format_scope,
        read_teacher_scores,
    )
    from service.cli.runs import run_duration_s

    taught = views[launched.pairs[0][2]]
    teacher = read_teacher_scores(taught.latest)
    trained = views[launched.teacher_label] if launched.teacher_label else None
    pairs = [_pair(client, seed, views[alone], views[bckd]) for seed, alone, bckd in launched.pairs]
    settings = load_settings()
    out = console.output()
    out.print(build_summary_table(teacher, run_duration_s(trained) if trained else None, pairs))
    show_verdict(client, launched.last_distilled, pairs=len(pairs))
    out.print(format_scope(taught), soft_wrap=True)
    tracked = [view for view in views.values() if view.mlflow_run_id]
    comparison = build_comparison_url(
        settings.mlflow_url,
        run_ids=[view.mlflow_run_id for view in tracked if view.mlflow_run_id],
        experiments=_experiments(tracked),
    )
    out.print(f"Compare in MLflow  {comparison}", soft_wrap=True)
    out.print(f"API docs           {settings.url}/docs")
    out.print("The stack goes on running; [bold]tandem down[/] stops it.")


def _write_page(client: "TandemClient", launched: _Launched, page: Path) -> None:
    run_id = launched.last_distilled
    report_id = client.run(run_id).report_run_id
    if report_id is not None:
        client.wait(report_id, timeout_s=_REPORT_PATIENCE_S)
    page.write_text(client.report(run_id, format="html"), encoding="utf-8")
    console.output().print(f"Report page        {page.resolve().as_uri()}", soft_wrap=True)


def _pair(client: "TandemClient", seed: int, alone: "RunView", taught: "RunView") -> "StudentPair":
    from service.cli.demo.summary import ScorePoint, StudentPair, select_best_scores
    from service.cli.runs import run_duration_s

    scores = [
        select_best_scores(
            ScorePoint(item.key, item.step, item.value) for item in client.metrics(view.id)
        )
        for view in (alone, taught)
    ]
    return StudentPair(
        seed,
        baseline=scores[0],
        distilled=scores[1],
        baseline_s=run_duration_s(alone),
        distilled_s=run_duration_s(taught),
    )


def _experiments(tracked: "list[RunView]") -> "list[str]":
    """MLflow's page wants the experiments too, and only MLflow knows their ids."""
    import httpx

    url = f"{load_settings().mlflow_url.rstrip('/')}/api/2.0/mlflow/runs/get"
    found: list[str] = []
    for view in tracked:
        answer = httpx.get(url, params={"run_id": view.mlflow_run_id}, trust_env=False, timeout=10)
        if answer.is_success:
            found.append(str(answer.json()["run"]["info"]["experiment_id"]))
    return found
