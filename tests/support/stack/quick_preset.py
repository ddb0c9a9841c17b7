"""The preset quick/instant on tiny digits: what is drawn, and when a run says its numbers."""

TINY = (
    *("--train", "96"),
    *("--val", "16"),
    *("--image-size", "96"),
    *("--smallest", "12"),
    *("--largest", "48"),
    *("--most-objects", "4"),
)
"""What `tandem data digits` is told; the preset wants them under the name digits-tiny."""

STEPS_AN_EPOCH = 12


def said_steps(epochs: int) -> list[int]:
    """Steps at which losses are said: of each epoch every tenth, and the last."""
    return [
        epoch * STEPS_AN_EPOCH + step for epoch in range(epochs) for step in (10, STEPS_AN_EPOCH)
    ]
