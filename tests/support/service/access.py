"""Tokens and authorized requests for a service with access control."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from configs.protocol.names import RunFile
from service.domain.vocabulary import Role
from service.usecases.access import create_token
from tests.support.factories import make_spec
from tests.support.service.stage import Stage


def make_token(
    stage: Stage, name: str, role: Role, *, project: str | None = None, days: int | None = None
) -> str:
    expires_at = None if days is None else stage.clock.now() + timedelta(days=days)
    _, text = create_token(name, role=role, project=project, expires_at=expires_at, ctx=stage.ctx)
    return text


def send_request(
    stage: Stage, method: str, path: str, token: str | None, **options: Any
) -> httpx.Response:
    headers = {"Authorization": "" if token is None else f"Bearer {token}"}
    return stage.http.request(method, path, headers=headers, **options)


def submit_run_with_token(stage: Stage) -> tuple[str, Path]:
    stage.add_dataset()
    run_id: str = stage.launch(spec=make_spec())["id"]
    stage.run_loops()
    return run_id, stage.home / "runs" / run_id / RunFile.TOKEN
