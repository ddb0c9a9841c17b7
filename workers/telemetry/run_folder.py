"""Reads what an earlier process of a run wrote into the run's folder."""

import json
from pathlib import Path

from pydantic import ValidationError

from configs.catalog import SpecError, parse_job
from configs.protocol.names import RunFile
from configs.spec.jobs import JobSpec
from workers.errors import IncompatibleRunFolder
from workers.telemetry.identity import AttemptIdentity

IDENTITY_FILE = "reporting.json"


def read_run_spec(run_dir: Path) -> JobSpec:
    """The run's spec; raises `IncompatibleRunFolder` if another version of Tandem wrote it."""
    file = run_dir / RunFile.SPEC
    try:
        return parse_job(json.loads(file.read_bytes()))
    except SpecError as error:
        raise incompatible_spec(file, error) from error


def incompatible_spec(file: Path, error: SpecError) -> IncompatibleRunFolder:
    """The error for an invalid spec that was written by Tandem, not by a person."""
    return IncompatibleRunFolder(file, [p.field or p.message for p in error.problems])


def read_identity(run_dir: Path) -> AttemptIdentity:
    """The newest attempt; raises `IncompatibleRunFolder` if another version of Tandem wrote it."""
    file = run_dir / IDENTITY_FILE
    try:
        return AttemptIdentity.model_validate_json(file.read_bytes())
    except ValidationError as error:
        fields = [".".join(map(str, item["loc"])) or item["msg"] for item in error.errors()]
        raise IncompatibleRunFolder(file, fields) from error
