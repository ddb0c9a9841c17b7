"""Errors of requests that contradict the current state."""

from service.domain.errors.base import TandemError


class Conflict(TandemError):
    """The request contradicts the current state."""


class InvalidTransition(Conflict):
    """A run cannot go from its state to the requested one."""

    code = "invalid_transition"

    def __init__(self, run_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Run {run_id} is {from_state} and cannot become {to_state}.")


class InvalidSweepTransition(Conflict):
    """A sweep cannot go from its state to the requested one."""

    code = "invalid_sweep_transition"

    def __init__(self, sweep_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Sweep {sweep_id} is {from_state} and cannot become {to_state}.")


class MethodsUnknown(Conflict):
    """The workers have not answered yet which methods of other packages they have."""

    code = "methods_unknown"
    advice = "Try again in half a minute; `GET /v1/methods` shows whether they have answered."

    def __init__(self, *, problem: str | None) -> None:
        """`problem`: why they did not answer before; None if nobody has asked them."""
        failure = f" They did not answer before: {problem}." if problem else ""
        super().__init__(
            "The workers are being asked which methods of other packages they have; this run "
            f"needs their answer.{failure}"
        )


class SweepLogConflict(Conflict):
    """Another driver has appended to a sweep log, or the append would leave a gap."""

    code = "sweep_log_conflict"
    advice = "Read the log again and append at its end."

    def __init__(self, sweep_id: str, first: int, length: int) -> None:
        super().__init__(
            f"Entries from {first} on do not fit: the log of sweep {sweep_id} has {length} entries."
        )


class DriverSuperseded(Conflict):
    """A later driver has replaced the one that calls."""

    code = "driver_superseded"

    def __init__(self, sweep_id: str, number: int, current: int) -> None:
        super().__init__(f"Driver {number} of sweep {sweep_id} is superseded by driver {current}.")


class NothingToPromote(Conflict):
    """A sweep has no trial that could be trained as a separate run."""

    code = "nothing_to_promote"

    def __init__(self, sweep_id: str, why: str) -> None:
        super().__init__(f"Sweep {sweep_id}: {why}")


class AttemptSuperseded(Conflict):
    """Records came from an attempt that is not the current one."""

    code = "attempt_superseded"

    def __init__(self, run_id: str, number: int, current: int) -> None:
        super().__init__(f"Attempt {number} of run {run_id} is over; the current one is {current}.")


class LeaseLost(Conflict):
    """Another service process has the lease of the run."""

    code = "lease_lost"

    def __init__(self, run_id: str, owner: str | None) -> None:
        super().__init__(f"Run {run_id} is leased by {owner}.")


class IdempotencyKeyReused(Conflict):
    """An idempotency key was sent before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used for another request; choose a new one."
        )


class NameTaken(Conflict):
    """The name belongs to something else."""

    code = "name_taken"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"Another {kind} is registered as {name!r}. Choose another name, or set replace: true."
        )
