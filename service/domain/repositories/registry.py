"""Interface of stored datasets and teachers."""

from typing import Protocol

from service.domain.registry import RegisteredDataset, RegisteredTeacher


class Registry(Protocol):
    """Datasets and teachers by name."""

    def dataset(self, name: str) -> RegisteredDataset | None:
        """The dataset with this name."""

    def datasets(self) -> list[RegisteredDataset]:
        """By name."""

    def put_dataset(self, dataset: RegisteredDataset) -> None:
        """Add or replace."""

    def teacher(self, name: str) -> RegisteredTeacher | None:
        """The teacher with this name."""

    def teachers(self) -> list[RegisteredTeacher]:
        """By name."""

    def put_teacher(self, teacher: RegisteredTeacher) -> None:
        """Add or replace."""
