"""One attempt of a run, on one page: spec -> config -> mmcv's runner -> outcome."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from configs.spec import (
    DatasetFiles,
    ExitCode,
    NamedDataset,
    NamedTeacher,
    RunFile,
    RunSpec,
    RunTeacher,
    TeacherFiles,
)
from workers.checkpoints import sha256_of
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec, StopRequested, Superseded
from workers.evaluation import Scores, evaluate
from workers.failures import exit_code_of, reason_of
from workers.hooks.checkpoints import CheckpointsHook
from workers.hooks.control import Termination, leave_if_unwanted
from workers.hooks.evaluation import say_scores
from workers.provenance import host, versions, write_environment
from workers.recipe import DatasetPlace, config_from_spec
from workers.reporting.reporter import Identity, Reporter
from workers.showcase import write_pictures
from workers.teaching import teacher_of
from workers.workbench import Workbench, build_workbench

log = logging.getLogger(__name__)


def train(spec: RunSpec, *, identity: Identity, run_dir: Path) -> ExitCode:
    """Train until the run ends or this attempt does; every end is reported, none is raised."""
    termination = Termination()
    termination.install()
    with Reporter.open(run_dir, identity=identity, spec=spec) as reporter:
        try:
            dataset = dataset_of(spec)
            best = _train(spec, dataset, run_dir=run_dir, reporter=reporter, termination=termination)
        except Superseded as error:
            log.warning("%s", error)
            return ExitCode.FENCED
        except StopRequested as error:
            reporter.outcome("cancelled", message=str(error))
            return ExitCode.CANCELLED
        except Exception as error:
            reason = reason_of(error)
            log.exception("The attempt failed: %s", reason)
            reporter.outcome("failed", reason=reason, message=f"{type(error).__name__}: {error}")
            return exit_code_of(reason)
        reporter.outcome("succeeded", best_map=best.best_map, best_epoch=best.best_epoch)
        return ExitCode.SUCCEEDED
