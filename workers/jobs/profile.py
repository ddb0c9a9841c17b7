"""Profiles the training step of a run in this process."""

import tempfile
from pathlib import Path

from configs.spec.run import RunSpec
from workers.data.resolve import resolve_run_dataset
from workers.probe.builder import StudentFactory
from workers.probe.step_profile import StepProfile, profile_step
from workers.process.device import prepare_device


def profile_run(spec: RunSpec, *, steps: int, trace: Path) -> StepProfile:
    """Measure `steps` steps of a run on its device, and write the trace of one more.

    Raises `WorkerError` if the run could not train here.
    """
    dataset = resolve_run_dataset(spec)
    device = prepare_device(spec.resources, spec.compute)
    with tempfile.TemporaryDirectory() as folder:
        factory = StudentFactory(dataset=dataset, run_dir=Path(folder), device=device)
        return profile_step(factory, spec, steps=steps, trace=trace)
