"""Lines of a run's log about its steps: where training is, how long it takes, what it measured."""

from collections.abc import Mapping

from configs.metric_keys import Metric
from configs.protocol.records import Progress

_MINUTE_S, _HOUR_S = 60, 3600
_HIDDEN = "loss_share/"
"""Loss shares are too many for a line; `tandem loss-shares` shows them."""


def format_step_line(
    step: int, values: Mapping[str, float], *, progress: Progress | None
) -> str | None:
    """Format the metrics of a step, as in `Epoch 2 of 6, step 30 of 90, 2 min 05 s left: loss 1.5`.

    None if no value is for the log. `progress` is the newest, perhaps of a few steps before. Values
    of step 0 are of the whole job and have no position.
    """
    values = {key: value for key, value in values.items() if not key.startswith(_HIDDEN)}
    if not values:
        return None
    position = f"{_format_position(step, progress)}: " if step else ""
    return f"{position}{format_values(values)}"


def format_values(values: Mapping[str, float]) -> str:
    """Format values by metric key, as in `loss 1.5, loss_cls 0.7, val/bbox_mAP 45.1`."""
    keys = sorted(values, key=lambda key: key != Metric.LOSS)  # the sum before its terms
    return ", ".join(
        f"{key.removeprefix('train/')} {_format_value(key, values[key])}" for key in keys
    )


def format_map(value: float) -> str:
    """Format an average precision or recall times 100; `-` if it is -1: there are no objects."""
    return "-" if value < 0.0 else f"{100.0 * value:.1f}"


def format_duration(seconds: float) -> str:
    """Format a duration, as in `45 s`, `2 min 05 s`, `3 h 12 min`."""
    rounded = max(0, round(seconds))
    if rounded < _MINUTE_S:
        return f"{rounded} s"
    if rounded < _HOUR_S:
        return f"{rounded // _MINUTE_S} min {rounded % _MINUTE_S:02d} s"
    return f"{rounded // _HOUR_S} h {rounded % _HOUR_S // _MINUTE_S:02d} min"


def _format_position(step: int, progress: Progress | None) -> str:
    if progress is None or progress.epochs == 0 or progress.steps == 0:
        return f"Step {step}"
    steps_per_epoch = progress.steps // progress.epochs
    epoch = (step - 1) // steps_per_epoch + 1
    position = f"Epoch {epoch} of {progress.epochs}, step {step} of {progress.steps}"
    if progress.eta_s is None:
        return position
    return f"{position}, {format_duration(progress.eta_s)} left"


def _format_value(key: str, value: float) -> str:
    return format_map(value) if "bbox_" in key else f"{value:.4g}"
