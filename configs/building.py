"""When validators of models are built: at import, or on first use.

At import is the default: an error in a model appears at once, and threads share what is built.
"""

_is_deferred = False


def defer() -> None:
    """Build the models that are imported from now on when they are first used, by one thread."""
    global _is_deferred
    _is_deferred = True


def is_deferred() -> bool:
    """Whether models are built on first use."""
    return _is_deferred
