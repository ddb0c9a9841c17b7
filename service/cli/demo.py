"""`tandem demo`: does distillation help? Teacher, student alone and student with BCKD."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.failures import Refusal, Refused
from service.cli.session import load_settings, open_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from service.api.schemas import RunRequest, RunView
    from service.cli.demo_report import Pair
    from service.client import TandemClient

DATASET = "digits"
TRAIN_IMAGES = 8000
VAL_IMAGES = 1000
TEACHER = "digits-teacher"


class TeacherChoice(StrEnum):
    """Where the demo's teacher comes from."""

    SHIPPED = "shipped"
    TRAIN = "train"


@dataclass(frozen=True)
class _Launched:
    """The runs of a demo by what they are called on screen."""

    run_ids: "dict[str, str]"
    teacher_label: str | None
    pairs: tuple[tuple[int, str, str], ...]
    """Seed, label of the student alone, label of the student with BCKD."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    teacher: Annotated[
        TeacherChoice, typer.Option(help="Use the teacher that comes with Tandem, or train it.")
    ] = TeacherChoice.SHIPPED,
    seed: Annotated[int, typer.Option(help="The students' seed.")] = 0,
    seeds: Annotated[str, typer.Option(help="Several seeds, as in 0,1,2; instead of --seed.")] = "",
    fresh: Annotated[
        bool, typer.Option(help="Train again what an earlier demo has trained.")
    ] = False,
) -> None:
    """Teacher, student alone and student with BCKD, over REST; then a table and the URLs."""
    from service.cli.stack import start
    from service.cli.teachers import register_shipped

    chosen = seeds_from(seeds) if seeds else (seed,)
    start()
    _ensure_dataset()
    if teacher is TeacherChoice.SHIPPED:
        register_shipped(TEACHER)
    with open_client() as client:
        launched = _launch(client, teacher=teacher, seeds=chosen, fresh=fresh)
        try:
            views = _follow(client, launched)
        except KeyboardInterrupt:
            console.output().print(
                "The runs go on. `tandem runs` lists them, `tandem down` stops all."
            )
            raise typer.Exit(130) from None
        _report(client, launched, views)


def seeds_from(text: str) -> tuple[int, ...]:
    """Seeds as written, `0,1,2`."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise Refused(
            Refusal(f"--seeds {text} is no list of numbers.", advice=("As in 0,1,2.",))
        ) from None
    return found


def _ensure_dataset() -> None:
    from service.cli.datasets import make_dataset

    make_dataset("digits", name=DATASET, options=[f"--train={TRAIN_IMAGES}", f"--val={VAL_IMAGES}"])


def _launch(
    client: "TandemClient", *, teacher: TeacherChoice, seeds: tuple[int, ...], fresh: bool
) -> _Launched:
    run_ids: dict[str, str] = {}
    reference: dict[str, JsonValue] = {"name": TEACHER}
    teacher_label: str | None = None
    if teacher is TeacherChoice.TRAIN:
        teacher_label = "teacher"
        trained = _launch_once(client, "digits/teacher", {}, name="demo: teacher", fresh=fresh)
        run_ids[teacher_label] = trained.id
        reference = {"run": trained.id}
    pairs: list[tuple[int, str, str]] = []
    for seed in seeds:
        suffix = f", seed {seed}" if len(seeds) > 1 else ""
        alone, taught = f"alone{suffix}", f"with BCKD{suffix}"
        seeded: dict[str, JsonValue] = {"seed": seed}
        run_ids[alone] = _launch_once(
            client, "digits/baseline", seeded, name=f"demo: alone, seed {seed}", fresh=fresh
        ).id
        run_ids[taught] = _launch_once(
            client,
            "digits/bckd",
            seeded | {"teacher": reference},
            name=f"demo: BCKD, seed {seed}",
            fresh=fresh,
        ).id
        pairs.append((seed, alone, taught))
    return _Launched(run_ids, teacher_label, tuple(pairs))


def _launch_once(
    client: "TandemClient",
    preset: str,
    changes: "Mapping[str, JsonValue]",
    *,
    name: str,
    fresh: bool,
) -> "RunView":
    """The run that has this very spec already, or a new one; never one that ended badly."""
    from uuid import uuid4

    from service.api.schemas import RunRequest

    request = RunRequest(preset=preset, changes=dict(changes), name=name)
    key = uuid4().hex if fresh else f"demo-{_digest(client, request)}"
    launched = client.launch(request, idempotency_key=key)
    if launched.is_over and launched.state != "succeeded":
        launched = client.launch(request, idempotency_key=uuid4().hex)
    elif launched.is_over:
        console.output().print(
            f"{name}: {launched.id} has trained before; --fresh trains it again."
        )
    return launched


def _digest(client: "TandemClient", request: "RunRequest") -> str:
    """What a run would be: the same demo finds its runs again, a changed one does not."""
    from hashlib import sha256

    parts = [
        request.model_dump_json(),
        client.plan(request).spec.model_dump_json(),
        *(
            f"{item.name} {item.manifest.digest}"
            for item in client.datasets()
            if item.name == DATASET
        ),
        *(f"{item.name} {item.sha256}" for item in client.teachers() if item.name == TEACHER),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _follow(client: "TandemClient", launched: _Launched) -> "dict[str, RunView]":
    from service.cli.run_progress import watch_runs

    out = console.output()
    out.print(f"Follow the curves in MLflow: {load_settings().mlflow_url}")
    views = watch_runs(client, launched.run_ids)
    for label, view in views.items():
        if view.is_over and view.state != "succeeded":
            raise Refused(
                Refusal(
                    f"{label} ({view.id}) {view.state}: {view.message or view.reason or '?'}",
                    advice=(view.advice or "", f"Its log: tandem logs {view.id}"),
                    quoted=tuple(client.logs(view.id).splitlines()[-15:]),
                )
            )
    return views


def _report(client: "TandemClient", launched: _Launched, views: "Mapping[str, RunView]") -> None:
    from service.cli.demo_report import comparison_url, report_table, teacher_scores
    from service.cli.runs import took_s

    taught = views[launched.pairs[0][2]]
    teacher = teacher_scores(taught.latest)
    trained = views[launched.teacher_label] if launched.teacher_label else None
    pairs = [_pair(client, seed, views[alone], views[bckd]) for seed, alone, bckd in launched.pairs]
    settings = load_settings()
    out = console.output()
    out.print(report_table(teacher, took_s(trained) if trained else None, pairs))
    tracked = [view for view in views.values() if view.mlflow_run_id]
    comparison = comparison_url(
        settings.mlflow_url,
        run_ids=[view.mlflow_run_id for view in tracked if view.mlflow_run_id],
        experiments=_experiments(tracked),
    )
    out.print(f"Compare in MLflow  {comparison}", soft_wrap=True)
    out.print(f"API docs           {settings.url}/docs")
    out.print("The stack goes on running; [bold]tandem down[/] stops it.")


def _pair(client: "TandemClient", seed: int, alone: "RunView", taught: "RunView") -> "Pair":
    from service.cli.demo_report import Pair, Point, best_scores
    from service.cli.runs import took_s

    scores = [
        best_scores(Point(item.key, item.step, item.value) for item in client.metrics(view.id))
        for view in (alone, taught)
    ]
    return Pair(
        seed, alone=scores[0], taught=scores[1], alone_s=took_s(alone), taught_s=took_s(taught)
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
