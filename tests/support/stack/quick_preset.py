"""The dataset of the preset quick/instant, and the steps at which its runs log losses."""

TINY = (
    *("--train", "96"),
    *("--val", "16"),
    *("--image-size", "96"),
    *("--smallest", "12"),
    *("--largest", "48"),
    *("--most-objects", "4"),
)
"""Options of `tandem data digits`; the preset expects the name digits-tiny."""

STEPS_PER_EPOCH = 12


def list_logged_steps(epochs: int) -> list[int]:
    """List the steps at which losses are logged: every tenth of an epoch, and its last."""
    return [
        epoch * STEPS_PER_EPOCH + step for epoch in range(epochs) for step in (10, STEPS_PER_EPOCH)
    ]
