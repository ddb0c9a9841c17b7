"""What an autopilot claims, and how it relates to the reports of its runs."""

from collections.abc import Mapping

from configs.conclusions import format_points
from service.domain.autopilot.confirmation import Confirmation, confirmed_gains, examine_pairs
from service.domain.autopilot.history import AutopilotHistory, ConfirmedGain
from service.domain.autopilot.report.facts import ReportFacts
from service.domain.autopilot.report.page import PageBlock, PageSection, PageTable, PageText
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.sequential_test import ERROR_RATE, LOOK_SHARES
from service.domain.autopilot.state import replay_history

_COLUMNS = ("Method", "Pairs", "Mean gain", "Above", "Claimed", "No further seeds because")


def describe_claim(
    request: AutopilotRequest | None, history: AutopilotHistory, facts: ReportFacts
) -> PageSection:
    """The gains of all finalists, with their bounds."""
    current = None if request is None else examine_pairs(request, replay_history(history))
    gains = {} if current is None else confirmed_gains(current)
    blocks: tuple[PageBlock, ...] = (
        PageText(text="No pair of a distilled run and its baseline is confirmed yet."),
    )
    if current is not None and gains:
        blocks = (_make_table(gains, current), PageText(text=_explain_bounds()))
    if facts.run_conclusion is not None:
        blocks = (*blocks, PageText(text=_relate_to_run(facts.run_conclusion)))
    return PageSection(title="What is claimed", blocks=blocks)


def _make_table(gains: Mapping[str, ConfirmedGain], current: Confirmation) -> PageTable:
    return PageTable(
        columns=_COLUMNS,
        rows=tuple(
            (
                arm,
                str(gain.pairs),
                format_points(gain.mean),
                "-" if gain.low is None else format_points(gain.low),
                "yes" if arm in current.claimed else "no",
                current.dropped.get(arm, "-"),
            )
            for arm, gain in gains.items()
        ),
    )


def _explain_bounds() -> str:
    counts = ", ".join(map(str, LOOK_SHARES))
    return (
        "Gains are mAP of a distilled run minus mAP of the student alone with the same seed, in "
        "points of 100, from seeds that no selection has used. The column Above has a one-sided "
        f"bound of the newest look, out of looks after {counts} pairs: all bounds of all methods "
        f"at all looks hold together in {100.0 * (1.0 - ERROR_RATE):.0f} % of autopilots."
    )


def _relate_to_run(conclusion: str) -> str:
    return (
        f"The report of the delivered run says: {conclusion} Its interval has two sides and is of "
        "one comparison that is examined once; it knows neither of the other methods nor of the "
        "earlier looks, so it may be narrower than the bound above, which is the claim."
    )
