"""Lines of the log of a run: epoch, step, time left and values."""

from datetime import UTC, datetime

import pytest

from configs.protocol.records import Progress
from workers.telemetry.log_lines import format_duration, format_map, format_step_line

VALUES = {"train/lr": 0.01, "train/loss": 1.23456, "loss_share/cls/all/share": 0.4}


def make_progress(*, eta_s: float | None = 125.0, epochs: int = 6, steps: int = 90) -> Progress:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    return Progress(
        at=at,
        attempt=1,
        phase="training",
        epoch=1,
        epochs=epochs,
        step=14,
        steps=steps,
        eta_s=eta_s,
    )


@pytest.mark.parametrize(
    ("step", "progress", "line"),
    [
        (30, make_progress(), "Epoch 2 of 6, step 30 of 90, 2 min 05 s left: loss 1.235, lr 0.01"),
        (15, make_progress(eta_s=None), "Epoch 1 of 6, step 15 of 90: loss 1.235, lr 0.01"),
        (
            16,
            make_progress(eta_s=0.0),
            "Epoch 2 of 6, step 16 of 90, 0 s left: loss 1.235, lr 0.01",
        ),
        (30, None, "Step 30: loss 1.235, lr 0.01"),
        (30, make_progress(epochs=0), "Step 30: loss 1.235, lr 0.01"),
        (0, make_progress(steps=0), "loss 1.235, lr 0.01"),
    ],
    ids=["training", "no estimate", "next epoch", "no progress", "no epochs", "before training"],
)
def test_a_line_says_where_training_is(step: int, progress: Progress | None, line: str) -> None:
    assert format_step_line(step, VALUES, progress=progress) == line


def test_precision_and_recall_are_shown_from_0_to_100() -> None:
    values = {"val/bbox_mAP": 0.4512, "val/bbox_mAP_s": -1.0, "bbox_AR_100": 0.5}

    line = format_step_line(90, values, progress=None)

    assert line == "Step 90: val/bbox_mAP 45.1, val/bbox_mAP_s -, bbox_AR_100 50.0"
    assert format_map(0.0) == "0.0"


def test_loss_shares_alone_make_no_line() -> None:
    assert format_step_line(30, {"loss_share/cls/all/share": 0.4}, progress=None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.0, "59 min 59 s"), (11_520.0, "3 h 12 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
