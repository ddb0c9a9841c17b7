"""The settings of this shell and the service they point to."""

from functools import cache
from typing import TYPE_CHECKING

from service.cli.console import error_output
from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.api.schemas.runs import RunView
    from service.api.schemas.sweeps import SweepView
    from service.client import TandemClient
    from service.domain.states import RunState
    from service.settings import Settings
    from service.stack.components import StackConfig

_PAGE = 200


@cache
def load_settings() -> "Settings":
    """The settings, read once."""
    from service.settings import Settings

    return Settings()


def load_stack_config() -> "StackConfig":
    """Where the stack of these settings lives."""
    import os
    import sys
    from pathlib import Path

    from service.stack.components import StackConfig

    settings = load_settings()
    return StackConfig(
        home=settings.home,
        host=settings.host,
        port=settings.port,
        ray_url=settings.ray_url,
        mlflow_url=settings.mlflow_url,
        bin=Path(sys.executable).parent,
        env=dict(os.environ),
        token_file=settings.ray_token_file,
        ray_token=settings.ray_token.get_secret_value() if settings.ray_token else None,
    )


def open_client() -> "TandemClient":
    """The service over HTTP; use it as a context manager."""
    from service.client import TandemClient

    return TandemClient(load_settings().url, token=load_token())


def load_token() -> str | None:
    """What is shown to the service: TANDEM_TOKEN, else what is in TANDEM_TOKEN_FILE."""
    settings = load_settings()
    if settings.token is not None:
        return settings.token.get_secret_value()
    file = settings.token_file.expanduser()
    if not file.is_file():
        return None
    if file.stat().st_mode & 0o077:
        error_output().print(f"{file} can be read by others: chmod 600 {file}", style="yellow")
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        advice = ("Put the token there again, or set TANDEM_TOKEN.",)
        raise CliError(ErrorMessage(f"{file} holds no token: {error}", advice=advice)) from error


def resolve_run_id(client: "TandemClient", prefix: str) -> str:
    """The id of the only run whose id begins with `prefix`."""
    return match_id_prefix(prefix, list_all_runs(client))


def match_id_prefix(
    prefix: str, runs: "Sequence[RunView | SweepView]", *, noun: str = "run"
) -> str:
    """The id among `runs` that is `prefix`, or the only one that begins with it."""
    matches = [run for run in runs if run.id.startswith(prefix)]
    exact = [run for run in matches if run.id == prefix]
    if len(exact or matches) == 1:
        return (exact or matches)[0].id
    if not matches:
        every = "`tandem runs --all` lists every run." if noun == "run" else "`tandem sweeps`."
        raise CliError(ErrorMessage(f"No {noun}'s id begins with {prefix!r}.", advice=(every,)))
    raise CliError(
        ErrorMessage(
            f"{len(matches)} {noun}s begin with {prefix!r}.",
            fields=tuple((run.id, run.name) for run in matches[:10]),
            advice=("Give more letters of the id.",),
        )
    )


def resolve_sweep_id(client: "TandemClient", prefix: str) -> str:
    """The id of the only sweep whose id begins with `prefix`."""
    from service.api.schemas.sweeps import SweepQuery

    found: list[SweepView] = []
    cursor: str | None = None
    while True:
        page = client.sweeps(SweepQuery(cursor=cursor, limit=_PAGE))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return match_id_prefix(prefix, found, noun="sweep")


def list_all_runs(client: "TandemClient", *, state: "RunState | None" = None) -> "list[RunView]":
    """Every run, page by page, the newest first."""
    from service.api.schemas.runs import RunQuery

    found: list[RunView] = []
    cursor: str | None = None
    while True:
        page = client.runs(RunQuery(state=state, cursor=cursor, limit=_PAGE))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def count_runs_by_state() -> dict[str, int]:
    """How many runs are in each state."""
    with open_client() as client:
        return {state: count for state, count in client.health().runs_by_state.items() if count}
