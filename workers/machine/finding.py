"""What an examination of a machine says."""

from configs.spec.base import Contract


class MachineFinding(Contract):
    """One check: whether it went well, what was seen, and what to do if not."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
