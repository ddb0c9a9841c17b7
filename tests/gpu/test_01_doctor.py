"""The doctor finds this machine's GPUs fit for work."""

import json
import subprocess

import pytest
import torch

from tests.support.gpu.measurement import RecordFigure
from tests.support.training.worker_processes import WORKER

pytestmark = pytest.mark.gpu

SHARED_MEMORY = "shared memory"
"""A finding about the container, which says nothing about the GPU."""


def test_the_doctor_names_the_gpu_and_finds_nothing_wrong_with_it(
    record_figure: RecordFigure,
) -> None:
    result = subprocess.run(
        [str(WORKER), "doctor", "--json"], capture_output=True, text=True, timeout=200, check=False
    )

    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    for name, finding in findings.items():
        record_figure(name, finding["detail"], "" if finding["ok"] else "(BAD)")
    failed = [name for name, finding in findings.items() if not finding["ok"]]
    assert set(failed) <= {SHARED_MEMORY}
    assert any(torch.cuda.get_device_name(0) in f["detail"] for f in findings.values())
