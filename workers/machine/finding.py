"""The result of one check of a machine."""

from configs.spec.base import Contract


class MachineFinding(Contract):
    """Whether a check passed, what it saw, and what to do if it failed."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
