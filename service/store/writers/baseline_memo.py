"""Baselines that a transaction has looked up: launches that share one mostly share those too."""

from dataclasses import dataclass, field

from service.domain.repositories.baselines import ReusableBaseline

_Key = tuple[str, str]


@dataclass
class BaselineMemo:
    """What `find_reusable` has returned, by digest and project, until the transaction changes it.

    Only while no other transaction can add runs: a baseline is not to be added twice.
    """

    is_complete: bool = False
    """Whether no other transaction adds runs before the end of this one."""

    _baselines: dict[_Key, ReusableBaseline | None] = field(default_factory=dict)

    def find(self, spec_digest: str, *, project: str) -> tuple[ReusableBaseline | None, bool]:
        """What was returned, and whether anything was."""
        key = spec_digest, project
        return self._baselines.get(key), key in self._baselines

    def remember(
        self, spec_digest: str, *, project: str, baseline: ReusableBaseline | None
    ) -> None:
        if self.is_complete:
            self._baselines[spec_digest, project] = baseline

    def forget_missing(self, spec_digest: str | None, *, project: str) -> None:
        """Forget that there was no baseline: such a run is added. An older one stays the first."""
        key = spec_digest or "", project
        if self._baselines.get(key) is None:
            self._baselines.pop(key, None)

    def clear(self) -> None:
        """Forget all: the state of a run changes."""
        self._baselines.clear()
