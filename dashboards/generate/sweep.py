"""How far is a sweep, what has it found, and how are the runs of its trials?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, id_variable, mlflow_url_variable
from dashboards.generate.panels import Query, Unit
from dashboards.generate.run_table import build_run_table

_SWEEP = 'sweep="$sweep"'
_STUDENT = 'tandem_run_map{part="bbox_mAP", whose="student"}'


def build_sweep_dashboard() -> Dashboard:
    """The dashboard of whoever searches."""
    made = create_dashboard(
        "sweep",
        description="One sweep while it searches; its report tells what came of it.",
        time_from="now-6h",
    )
    made.with_variable(id_variable("sweep", metric="tandem_sweep_trials"))
    made.with_variable(mlflow_url_variable())
    for add in (_trials, _runs):
        add(made)
    return made


def _trials(made: Dashboard) -> None:
    made.with_row(Row("Trials"))
    made.with_panel(
        panels.stat_panel(
            "Trials",
            "That were begun, however they ended.",
            Query(f"sum({_trials_by_state()})", "trials"),
            unit=Unit.COUNT,
        ).height(panels.TALL)
    )
    made.with_panel(
        panels.stat_panel(
            "Best objective",
            "Of a trial that goes on or has finished.",
            Query(f"max(tandem_sweep_best{{{_SWEEP}}})", "best"),
            unit=Unit.NUMBER,
        )
        .decimals(4)
        .height(panels.TALL)
    )
    made.with_panel(
        panels.stacked_panel(
            "Trials by state",
            "Live ones go on, the scheduler ended stopped ones; `tandem trials ID` lists all.",
            Query(_trials_by_state(), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Best objective so far",
            "Where it has been flat for long, more trials will hardly help.",
            Query(f"max(tandem_sweep_best{{{_SWEEP}}})", "best"),
            unit=Unit.NUMBER,
        ).span(panels.THIRD)
    )


def _runs(made: Dashboard) -> None:
    made.with_row(Row("Runs of its trials"))
    made.with_panel(
        build_run_table(
            "Trials that train",
            "A click opens the run; what a trial's values are says `tandem trials ID`.",
            select=_of_trials,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "mAP by trial",
            "Of the student, for the trials that train.",
            Query(_by_trial(_STUDENT), "{{name}}"),
            unit=Unit.SHARE,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "Loss by trial",
            "The whole loss; trials with other weights are not compared by it.",
            Query(_by_trial('tandem_run_loss{term="loss"}'), "{{name}}"),
            unit=Unit.NUMBER,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "Images per second, all trials",
            "What the sweep gets through: students in a pack share their teacher's looks.",
            Query(f"sum({_by_run('tandem_run_images_per_second')})", "images/s"),
            unit=Unit.PER_SECOND,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "Trials that train at once",
            "Those in packs included; more than there are places for single runs are packed.",
            Query(f"count({_by_run('tandem_run_attempts')})", "runs"),
            unit=Unit.COUNT,
        )
    )


def _trials_by_state() -> str:
    return f"max by (state) (tandem_sweep_trials{{{_SWEEP}}})"


def _by_trial(series: str) -> str:
    # With repeats a trial has several runs.
    return f"avg by (name) ({_by_run(series)})"


def _by_run(series: str) -> str:
    # Each service process tells the same of a run.
    return f"max by (run, name) ({_of_trials(series)})"


def _of_trials(series: str) -> str:
    # A trial's run is called after its sweep: NAME #3.
    run = f'label_replace({series}, "of", "$1", "name", "(.*) #[0-9]+")'
    sweep = f'label_replace(tandem_sweep_trials{{{_SWEEP}}}, "of", "$1", "name", "(.*)")'
    return f"{run} and on (of, project) {sweep}"
