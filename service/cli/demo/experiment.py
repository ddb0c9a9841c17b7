"""Run an experiment: launch pairs of students, follow them, print and write the result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.launch_digests import digest_launch
from service.cli.session import load_settings, open_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from service.api.schemas.runs import RunView
    from service.cli.demo.choices import ImageSizeChoice
    from service.cli.demo.summary import StudentPair
    from service.client import TandemClient


_REPORT_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Experiment:
    """Presets of a teacher and of a distilled student, on one dataset."""

    name: str
    dataset: str
    teacher_preset: str
    """The preset that trains the teacher; without effect if there is one."""

    distilled_preset: str
    """Its baseline is derived from it, and launched with each run."""

    teacher: str | None
    """Name of a registered teacher."""

    teacher_run: str | None = None
    """Id of the run whose detector is the teacher. Without either, one is trained first."""

    is_packed: bool = False
    """Whether each distilled student trains in one process with its baseline."""

    changes: "Mapping[str, JsonValue]" = field(default_factory=dict)
    """Fields that differ from the presets in every run, by their dotted names."""

    image_size: "ImageSizeChoice | None" = None
    """How the image size was chosen; None if it is the preset's."""

    @property
    def trains_teacher(self) -> bool:
        """Whether the experiment trains its teacher first."""
        return self.teacher is None and self.teacher_run is None

    @property
    def teacher_reference(self) -> "dict[str, JsonValue]":
        """The teacher as specs name it; of an experiment that does not train one."""
        return {"name": self.teacher} if self.teacher else {"run": self.teacher_run}


@dataclass(frozen=True)
class _Launched:
    """Ids of the runs of an experiment, by label."""

    run_ids: "dict[str, str]"
    teacher_label: str | None
    pairs: tuple[tuple[int, str, str], ...]
    """Seed, label of the baseline, label of the distilled student."""

    @property
    def last_distilled(self) -> str:
        """Id of the last distilled run; its report covers all pairs."""
        return self.run_ids[self.pairs[-1][2]]


def run_experiment(
    experiment: Experiment, *, seeds: tuple[int, ...], fresh: bool, page: Path | None = None
) -> None:
    """Launch the runs, follow them, and print a table, the verdict and URLs.

    `fresh` trains runs of an earlier call again; `page` is the file for the HTML report.
    """
    with open_client() as client:
        launched = _launch(client, experiment, seeds=seeds, fresh=fresh)
        try:
            views = _watch(client, launched)
        except KeyboardInterrupt:
            console.output().print(
                "The runs continue. `tandem runs` lists them, `tandem down` stops the stack."
            )
            raise typer.Exit(130) from None
        _print_results(client, launched, views)
        if page is not None:
            _write_page(client, launched, page)


def _launch(
    client: "TandemClient", experiment: Experiment, *, seeds: tuple[int, ...], fresh: bool
) -> _Launched:
    run_ids: dict[str, str] = {}
    teacher_label: str | None = None
    reference = experiment.teacher_reference
    if experiment.trains_teacher:
        teacher_label = "teacher"
        teacher_run = _launch_once(
            client, experiment, experiment.teacher_preset, "teacher", fresh=fresh
        )
        run_ids[teacher_label] = teacher_run.id
        reference = {"run": teacher_run.id}
    pairs: list[tuple[int, str, str]] = []
    for seed in seeds:
        suffix = f", seed {seed}" if len(seeds) > 1 else ""
        baseline, distilled = f"baseline{suffix}", f"with BCKD{suffix}"
        run = _launch_once(
            client,
            experiment,
            experiment.distilled_preset,
            f"BCKD, seed {seed}",
            changes={"seed": seed, "teacher": reference},
            fresh=fresh,
        )
        assert run.baseline_run_id is not None, "a distilled run is launched with its baseline"
        run_ids |= {baseline: run.baseline_run_id, distilled: run.id}
        pairs.append((seed, baseline, distilled))
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
    """Return the run that an earlier call has launched with this spec, or launch a new one.

    A failed or cancelled run is never returned.
    """
    from uuid import uuid4

    from service.api.schemas.runs import RunRequest

    name = f"{experiment.name}: {label}"
    request = RunRequest(
        preset=preset,
        changes={**experiment.changes, **(changes or {})},
        name=name,
        pack=experiment.is_packed and preset == experiment.distilled_preset,
    )
    digest = digest_launch(client, request, dataset=experiment.dataset, teacher=experiment.teacher)
    key = uuid4().hex if fresh else f"{experiment.name}-{digest}"
    launched = client.launch(request, idempotency_key=key)
    if launched.is_over and launched.state != "succeeded":
        launched = client.launch(request, idempotency_key=uuid4().hex)
    elif launched.is_over:
        console.output().print(f"{name}: {launched.id} exists already; --fresh trains it again.")
    return launched


def _watch(client: "TandemClient", launched: _Launched) -> "dict[str, RunView]":
    from service.cli.progress.runs import watch_runs

    out = console.output()
    out.print(f"Runs in MLflow: {client.health().mlflow_url}")
    views = watch_runs(client, launched.run_ids)
    for label, view in views.items():
        if view.is_over and view.state != "succeeded":
            cause = view.message or view.reason or "unknown cause"
            raise CliError(
                ErrorMessage(
                    f"{label} ({view.id}) {view.state}: {cause}",
                    advice=(view.advice or "", f"Its log: tandem logs {view.id}"),
                    log_lines=tuple(client.logs(view.id).splitlines()[-15:]),
                )
            )
    return views


def _print_results(
    client: "TandemClient", launched: _Launched, views: "Mapping[str, RunView]"
) -> None:
    from service.cli.comparisons import show_verdict
    from service.cli.demo.summary import (
        build_summary_table,
        format_scope,
        read_teacher_scores,
    )
    from service.cli.views.run_details import run_duration_s

    distilled = views[launched.pairs[0][2]]
    teacher = read_teacher_scores(distilled.latest)
    teacher_run = views[launched.teacher_label] if launched.teacher_label else None
    pairs = [
        _build_pair(client, seed, views[baseline], views[bckd])
        for seed, baseline, bckd in launched.pairs
    ]
    settings = load_settings()
    out = console.output()
    out.print(
        build_summary_table(teacher, run_duration_s(teacher_run) if teacher_run else None, pairs)
    )
    show_verdict(client, launched.last_distilled, pairs=len(pairs))
    out.print(format_scope(distilled))
    compare_url = client.run(launched.last_distilled).compare_url or client.health().mlflow_url
    out.print(f"Compare in MLflow  {compare_url}")
    out.print(f"API docs           {settings.url}/docs")
    out.print("The stack keeps running; [bold]tandem down[/] stops it.")


def _write_page(client: "TandemClient", launched: _Launched, page: Path) -> None:
    run_id = launched.last_distilled
    report_id = client.run(run_id).report_run_id
    if report_id is not None:
        client.wait(report_id, timeout_s=_REPORT_TIMEOUT_S)
    page.write_text(client.report(run_id, format="html"), encoding="utf-8")
    console.output().print(f"Report page        {page.resolve().as_uri()}")


def _build_pair(
    client: "TandemClient", seed: int, baseline: "RunView", distilled: "RunView"
) -> "StudentPair":
    from service.cli.demo.summary import ScorePoint, StudentPair, select_best_scores
    from service.cli.views.run_details import run_duration_s

    scores = [
        select_best_scores(
            ScorePoint(item.key, item.step, item.value) for item in client.metrics(view.id)
        )
        for view in (baseline, distilled)
    ]
    return StudentPair(
        seed,
        baseline=scores[0],
        distilled=scores[1],
        baseline_s=run_duration_s(baseline),
        distilled_s=run_duration_s(distilled),
    )
