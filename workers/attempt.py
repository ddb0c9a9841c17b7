"""One attempt of a job: whatever it does, every end is reported and none is raised."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.spec import EvaluationSpec, ExitCode, ExportSpec
from workers.errors import StopRequested, Superseded
from workers.failures import exit_code_of, message_of, reason_of
from workers.hooks.control import Termination, leave_if_unwanted
from workers.reporting.identity import Identity
from workers.reporting.reporter import Reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What a job's work is given: where it writes, whom it tells."""

    run_dir: Path
    reporter: Reporter
    termination: Termination

    def leave_if_unwanted(self) -> None:
        """Raises what ends an attempt that is not wanted any more."""
        leave_if_unwanted(self.reporter, termination=self.termination)

    def write(self, path: str, text: str) -> None:
        """Write a file of the run's folder and have it logged."""
        file = self.run_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.reporter.artifact(path)

    def progress(self, *, done: int, total: int, is_last: bool = False) -> None:
        """Say how far the work is."""
        self.reporter.progress(
            phase="finishing" if is_last else "evaluating",
            epoch=0,
            epochs=0,
            step=done,
            steps=total,
            eta_s=None,
        )


def attempt(
    spec: EvaluationSpec | ExportSpec,
    work: Callable[[Desk], float | None],
    *,
    identity: Identity,
    run_dir: Path,
) -> ExitCode:
    """Do `work`, which returns the model's mAP if it knows it, and say how it ended."""
    termination = Termination()
    termination.install()
    with Reporter.open(run_dir, identity=identity, spec=spec) as reporter:
        try:
            best_map = work(Desk(run_dir, reporter, termination))
        except Superseded as error:
            log.warning("%s", error)
            return ExitCode.FENCED
        except StopRequested as error:
            reporter.outcome("cancelled" if error.ends_the_run else "stopped", message=str(error))
            return ExitCode.CANCELLED if error.ends_the_run else ExitCode.STOPPED
        except Exception as error:
            reason = reason_of(error)
            log.exception("The attempt failed: %s", reason)
            reporter.outcome("failed", reason=reason, message=message_of(error))
            return exit_code_of(reason)
        reporter.outcome("succeeded", best_map=best_map)
        return ExitCode.SUCCEEDED
