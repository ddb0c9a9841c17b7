"""The dashboard of one sweep: its trials, and their runs."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, id_variable, mlflow_url_variable
from dashboards.generate.panels import Query, Unit
from dashboards.generate.run_table import build_run_table

_SWEEP = 'sweep="$sweep"'
_STUDENT = 'tandem_run_map{part="bbox_mAP", model="student"}'


def build_sweep_dashboard() -> Dashboard:
    """Build the dashboard of a sweep that is chosen by a variable."""
    dashboard = create_dashboard(
        "sweep",
        description="One sweep while it searches; its report has the results.",
        time_from="now-6h",
    )
    dashboard.with_variable(id_variable("sweep", metric="tandem_sweep_trials"))
    dashboard.with_variable(mlflow_url_variable())
    for add in (_add_trials, _add_runs):
        add(dashboard)
    return dashboard


def _add_trials(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Trials"))
    dashboard.with_panel(
        panels.stat_panel(
            "Trials",
            "All trials so far, in any state.",
            Query(f"sum({_trials_by_state()})", "trials"),
            unit=Unit.COUNT,
        ).height(panels.TALL)
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Best objective",
            "The best of running and finished trials.",
            Query(f"max(tandem_sweep_best{{{_SWEEP}}})", "best"),
            unit=Unit.NUMBER,
        )
        .decimals(4)
        .height(panels.TALL)
    )
    dashboard.with_panel(
        panels.stacked_panel(
            "Trials by state",
            "The scheduler ends the stopped ones early; `tandem trials ID` lists all.",
            Query(_trials_by_state(), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Best objective so far",
            "If it has been flat for long, more trials hardly help.",
            Query(f"max(tandem_sweep_best{{{_SWEEP}}})", "best"),
            unit=Unit.NUMBER,
        ).span(panels.THIRD)
    )


def _add_runs(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Runs of the trials"))
    dashboard.with_panel(
        build_run_table(
            "Running trials",
            "A click opens the run; `tandem trials ID` shows the values of each trial.",
            select=_of_trials,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "mAP by trial",
            "Of the students of running trials.",
            Query(_by_trial(_STUDENT), "{{name}}"),
            unit=Unit.SHARE,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Loss by trial",
            "The total loss; not comparable between trials with different loss weights.",
            Query(_by_trial('tandem_run_loss{term="loss"}'), "{{name}}"),
            unit=Unit.NUMBER,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Images per second, all trials",
            "Throughput of the sweep; packed students share the teacher's forward passes.",
            Query(f"sum({_by_run('tandem_run_images_per_second')})", "images/s"),
            unit=Unit.PER_SECOND,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Concurrent trials",
            "Number of trials that train at the same time, including those in packs.",
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
    # Every service process exports the same values.
    return f"max by (run, name) ({_of_trials(series)})"


def _of_trials(series: str) -> str:
    # The run of a trial is named after its sweep: NAME #3.
    run = f'label_replace({series}, "of", "$1", "name", "(.*) #[0-9]+")'
    sweep = f'label_replace(tandem_sweep_trials{{{_SWEEP}}}, "of", "$1", "name", "(.*)")'
    return f"{run} and on (of, project) {sweep}"
