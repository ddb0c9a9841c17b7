"""Output of reports and loss shares."""

from service.api.schemas.run_lists import RunPage
from service.api.schemas.runs import LevelLossShareView, LossSharesView
from service.domain.states import RunState
from tests.support.cli.canned_api import Answer
from tests.support.cli.outputs import CommandLine
from tests.support.service.run_views import make_run_summary, make_run_view

RUN = make_run_view(RunState.SUCCEEDED, report_run_id="r0123456789ac")
ANSWERS: dict[str, Answer] = {
    "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN.id)], next_cursor=None),
    f"GET /v1/runs/{RUN.id}": RUN,
}
SHARES = LossSharesView(
    samples=12,
    step=240,
    parts=[
        LevelLossShareView(
            term=term, level=level, share=share, cosine=cosine, is_distillation=is_distillation
        )
        for term, share, cosine, is_distillation in (
            ("cls", 0.4, 1.0, False),
            ("distill_cls", 0.6, -0.25, True),
        )
        for level in ("all", "p3", "p7")
    ],
    verdict="Distillation takes 60 % of the gradient and opposes the labels.",
)


def test_loss_shares(command_line: CommandLine) -> None:
    api = {**ANSWERS, f"GET /v1/runs/{RUN.id}/loss-budget": SHARES}

    command_line.check("loss_shares", "loss-shares", "r0", api=api)

    assert command_line.read_json("loss-shares", "r0", api=api)["samples"] == 12


def test_report(command_line: CommandLine) -> None:
    api = {**ANSWERS, f"GET /v1/runs/{RUN.id}/report": "# Did it help?\n\nYes.\n"}

    command_line.check("report", "report", "r0", api=api)
