"""Names that are derived from other names."""

import pytest

from configs.protocol.names import DEFAULT_PROJECT, experiment_name


@pytest.mark.parametrize(
    ("project", "experiment"), [(DEFAULT_PROJECT, "tandem"), ("road-signs", "tandem/road-signs")]
)
def test_a_project_has_an_experiment_of_its_own(project: str, experiment: str) -> None:
    assert experiment_name(project) == experiment
