"""What the log of a failed attempt says."""

from pathlib import Path
from urllib.error import URLError

import pytest

from configs.protocol.names import ExitCode
from workers.attempt.lifecycle import report_error
from workers.errors import InvalidSpec
from workers.process.gpu_context import CudaContext
from workers.telemetry.protocol import NullReporter


def report(error: Exception, run_dir: Path) -> ExitCode:
    error.__cause__ = URLError("no network")
    return report_error(
        error, reporter=NullReporter(), run_dir=run_dir, attempt=1, gpu=CudaContext()
    )


def test_an_error_that_explains_itself_is_logged_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = report(InvalidSpec("The ImageNet weights cannot be downloaded."), tmp_path)

    assert code is ExitCode.REFUSED
    assert "The attempt failed: invalid_spec" in caplog.text
    assert "Traceback" not in caplog.text


def test_any_other_error_is_logged_with_the_traceback_that_leads_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report(RuntimeError("unexpected"), tmp_path)

    assert "The attempt failed: bug" in caplog.text
    assert "RuntimeError: unexpected" in caplog.text
    assert caplog.text.count("direct cause of") == 1
