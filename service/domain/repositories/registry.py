"""Repository of datasets and teachers."""

from typing import Literal, Protocol

from service.domain.registry import RegisteredDataset, RegisteredTeacher


class Registry(Protocol):
    """Stores datasets and teachers by name."""

    def lock_inserts(self) -> None:
        """Keep other transactions from adding names until this one ends: call it before looking
        whether a name exists."""

    def dataset(self, name: str) -> RegisteredDataset | None:
        """The dataset, or None if none is registered under this name."""

    def datasets(self) -> list[RegisteredDataset]:
        """All datasets, by name."""

    def put_dataset(self, dataset: RegisteredDataset) -> None:
        """Add or replace a dataset."""

    def teacher(self, name: str) -> RegisteredTeacher | None:
        """The teacher, or None if none is registered under this name."""

    def teachers(self) -> list[RegisteredTeacher]:
        """All teachers, by name."""

    def has_unfinished_users(
        self, kind: Literal["dataset", "teacher"], name: str, *, outside: str
    ) -> bool:
        """Whether an unfinished run or sweep of a project other than `outside` refers to the
        dataset or the teacher with this name."""

    def find(
        self, *, dataset: str | None, teacher: str | None
    ) -> tuple[RegisteredDataset | None, RegisteredTeacher | None]:
        """The dataset and the teacher with these names, in one query; None for a name of None, and
        if none is registered."""

    def put_teacher(self, teacher: RegisteredTeacher) -> None:
        """Add or replace a teacher."""
