"""`tandem-worker profile` on a small distilled run: parts that add up, and a trace."""

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from configs.spec.run import RunSpec
from tests.support.training.probes import make_distilled_spec
from workers.cli import app
from workers.probe.builder import StudentFactory
from workers.probe.step_profile import profile_step


def test_the_parts_of_a_step_add_up_to_it(factory: StudentFactory, base: RunSpec) -> None:
    profile = profile_step(factory, base, steps=2)

    names = {part.name for part in profile.parts}
    assert names == {
        "teacher",
        "student: backbone and pyramid",
        "student: head",
        "label assignment",
        "detection losses",
        "distillation losses",
        "sum of losses",
        "backward",
        "norm and update",
    }
    assert abs(sum(part.share for part in profile.parts) - 1.0) < 0.5  # medians of two steps
    assert all(part.ms > 0.0 for part in profile.parts)
    assert profile.load_ms > 0.0
    assert profile.operators > 1_000


def test_the_command_prints_the_parts_and_writes_a_trace(tmp_path: Path, digits: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(make_distilled_spec(digits)))
    trace = tmp_path / "trace.json"

    arguments = ["profile", str(spec), "--steps", "1", "--trace", str(trace)]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    assert "teacher" in result.output
    assert "backward" in result.output
    labels = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"teacher", "distillation losses", "norm and update"} <= labels


def test_a_spec_of_another_task_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("task: evaluate\n")

    assert CliRunner().invoke(app, ["profile", str(spec)]).exit_code != 0
