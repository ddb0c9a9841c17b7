"""Environment variables of processes with a GPU; values of an operator are not changed."""

import pytest

from workers.process.gpu_environment import gpu_environment
from workers.ray_train.launcher import process_environment

GROWING = "expandable_segments:True"


def test_the_allocator_grows_its_segments_and_cublas_repeats_itself() -> None:
    assert gpu_environment({"PATH": "/bin"}) == {
        "PYTORCH_ALLOC_CONF": GROWING,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_an_operators_allocator_is_not_changed(name: str) -> None:
    assert gpu_environment({name: "max_split_size_mb:128"}) == {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8"
    }


def test_an_operators_workspace_is_not_changed() -> None:
    assert "CUBLAS_WORKSPACE_CONFIG" not in gpu_environment({"CUBLAS_WORKSPACE_CONFIG": ":16:8"})


def test_processes_of_a_group_have_the_environment_of_a_single_one() -> None:
    env = process_environment({"TANDEM_ATTEMPT": "r1-a2"}, has_gpus=True)

    assert env == {"TANDEM_ATTEMPT": "r1-a2"} | gpu_environment({})


def test_what_is_set_for_the_driver_is_handed_on_to_its_group() -> None:
    variables = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}

    env = process_environment(variables, has_gpus=True)

    assert env["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:128"
    assert "PYTORCH_ALLOC_CONF" not in env


def test_processes_without_gpus_see_none() -> None:
    env = process_environment({}, has_gpus=False)

    assert env == {"TANDEM_ATTEMPT": "", "CUDA_VISIBLE_DEVICES": ""}
