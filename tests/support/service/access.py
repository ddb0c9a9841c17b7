"""Tokens and authorized requests for a service with access control."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from configs.protocol.names import RunFile
from service.domain.access import Role
from service.usecases.access import create_token
from tests.support.factories import a_spec
from tests.support.service.stage import Stage


def a_token(
    stage: Stage, name: str, role: Role, *, project: str | None = None, days: int | None = None
) -> str:
    ends = None if days is None else stage.clock.now() + timedelta(days=days)
    _, text = create_token(name, role=role, project=project, expires_at=ends, ctx=stage.ctx)
    return text


def ask(stage: Stage, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
    headers = {"Authorization": "" if token is None else f"Bearer {token}"}
    return stage.http.request(method, path, headers=headers, **more)


def a_started_run(stage: Stage) -> tuple[str, Path]:
    stage.add_dataset()
    run_id: str = stage.launch(spec=a_spec())["id"]
    stage.turn()
    return run_id, stage.home / "runs" / run_id / RunFile.TOKEN
