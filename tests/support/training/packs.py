"""Packs of training runs, trained in this process."""

import json
import os
from pathlib import Path
from typing import Any

from configs.catalog import parse_spec
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.pack import PackJob, PackMember
from workers.attempt.stop import Termination
from workers.jobs.train_pack import train_pack
from workers.process import compat


def make_pack_job(folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1) -> PackJob:
    """A pack job whose members have folders of their names."""
    entries = []
    for number, (name, spec) in enumerate(members.items()):
        run_dir = folder / name
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / RunFile.SPEC).write_text(json.dumps(spec))
        entries.append(
            PackMember(run_id=f"r{number:012d}", attempt=attempt, run_dir=str(run_dir), name=name)
        )
    return PackJob(id=f"pack-{os.urandom(4).hex()}", members=tuple(entries))


def train_in_process(
    folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1
) -> ExitCode:
    """Train the members in this process."""
    compat.apply_patches()
    job = make_pack_job(folder, members, attempt=attempt)
    parsed = [parse_spec(spec) for spec in members.values()]
    return train_pack(job, parsed, termination=Termination())
