"""Reads what probes have measured."""

import structlog
from pydantic import ValidationError

from configs.protocol.names import RunFile
from configs.protocol.probe import Probe
from service.domain.errors.requests import FileTooLarge
from service.usecases.context import Context

log = structlog.get_logger(__name__)


def read_probe(run_id: str, *, ctx: Context) -> Probe | None:
    """The result of a probe that has succeeded; None if its file is missing or invalid."""
    try:
        content = ctx.files.text(ctx.files.run_dir(run_id) / RunFile.PROBE)
        return Probe.model_validate_json(content)
    except (FileTooLarge, ValidationError) as error:
        log.warning("probe.invalid", run_id=run_id, reason=str(error))
        return None
