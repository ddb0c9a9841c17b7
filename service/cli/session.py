"""Settings of this shell, and the client of the service that they point to."""

from functools import cache
from typing import TYPE_CHECKING

from service.cli.console import error_output
from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.api.schemas.autopilots import AutopilotSummaryView
    from service.api.schemas.run_lists import RunQuery, RunSummaryView
    from service.api.schemas.sweeps import SweepView
    from service.client import TandemClient
    from service.client_reads import RunReader
    from service.settings import Settings
    from service.stack.components import StackConfig

    Listed = RunSummaryView | SweepView | AutopilotSummaryView

_PAGE = 200
_MATCHES = 11
"""How many matches of a prefix are requested: one more than are listed."""

_LONGEST_PREFIX = 64
_MIN_SIMILAR_LENGTH = 6
"""Characters of a prefix from which similar ids are suggested; shorter ones are similar to many."""


@cache
def load_settings() -> "Settings":
    """Load the settings from the environment, once per process."""
    from service.settings import Settings

    return Settings()


def load_stack_config() -> "StackConfig":
    """Build the configuration of the local stack from the settings."""
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
        job_environment=settings.job_environment,
        token_file=settings.ray_token_file,
        ray_token=settings.ray_token.get_secret_value() if settings.ray_token else None,
    )


def open_client() -> "TandemClient":
    """Create a client of the service; use it as a context manager."""
    from service.client import TandemClient

    return TandemClient(load_settings().url, token=load_token())


def open_reader() -> "RunReader":
    """Create a client that only lists and shows runs, which starts faster."""
    from service.client_reads import RunReader

    return RunReader(load_settings().url, token=load_token())


def load_token() -> str | None:
    """Load the access token: TANDEM_TOKEN, else the content of TANDEM_TOKEN_FILE, else None."""
    import os
    from pathlib import Path

    settings = load_settings()
    if settings.token is not None:
        return settings.token.get_secret_value()
    # Without a home folder, `~` stays as it is, and there is no such file.
    file = Path(os.path.expanduser(settings.token_file))  # noqa: PTH111
    if not file.is_file():
        return None
    if file.stat().st_mode & 0o077:
        error_output().print(
            f"{file} is readable by other users: run `chmod 600 {file}`", style="yellow"
        )
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        advice = ("Write the token to the file again, or set TANDEM_TOKEN.",)
        raise CliError(
            ErrorMessage(f"{file} does not contain a token: {error}", advice=advice)
        ) from error


def resolve_run_id(client: "RunReader", prefix: str) -> str:
    """Return the id of the only run whose id starts with `prefix`; one request."""
    from service.api.schemas.run_lists import RunQuery

    page = client.runs(RunQuery(id_prefix=prefix[:_LONGEST_PREFIX], limit=_MATCHES))
    if not page.items:
        raise CliError(_explain_unknown_run(client, prefix))
    return match_id_prefix(prefix, page.items)


def resolve_sweep_id(client: "TandemClient", prefix: str) -> str:
    """Return the id of the only sweep whose id starts with `prefix`; one request."""
    from service.api.schemas.sweeps import SweepQuery

    page = client.sweeps(SweepQuery(id_prefix=prefix[:_LONGEST_PREFIX], limit=_MATCHES))
    if not page.items:
        raise CliError(_explain_unknown_sweep(client, prefix))
    return match_id_prefix(prefix, page.items, noun="sweep")


def resolve_autopilot_id(client: "TandemClient", prefix: str) -> str:
    """Return the id of the only autopilot whose id starts with `prefix`; one request."""
    from service.api.schemas.autopilots import AutopilotQuery

    query = AutopilotQuery(id_prefix=prefix[:_LONGEST_PREFIX], limit=_MATCHES)
    items = client.autopilots(query).items
    if not items:
        hint = "`tandem autopilots` lists every autopilot."
        newest = client.autopilots().items
        raise CliError(_explain_unknown_id(prefix, newest, noun="autopilot", hint=hint))
    return match_id_prefix(prefix, items, noun="autopilot")


def _explain_unknown_run(client: "RunReader", prefix: str) -> ErrorMessage:
    """Say that no run has this id, and which run or sweep was probably meant."""
    from service.api.schemas.run_lists import RunQuery

    if client.has_sweep(prefix[:_LONGEST_PREFIX]):
        hint = f"`tandem trials {prefix}` shows it."
        return ErrorMessage(f"{prefix} is a sweep, not a run.", advice=(hint,))
    newest = client.runs(RunQuery(limit=_PAGE)).items
    return _explain_unknown_id(
        prefix, newest, noun="run", hint="`tandem runs --all` lists every run."
    )


def _explain_unknown_sweep(client: "TandemClient", prefix: str) -> ErrorMessage:
    """Say that no sweep has this id, and which sweep or run was probably meant."""
    from service.api.schemas.run_lists import RunQuery

    if client.runs(RunQuery(id_prefix=prefix[:_LONGEST_PREFIX], limit=1)).items:
        hint = f"`tandem show {prefix}` shows it."
        return ErrorMessage(f"{prefix} is a run, not a sweep.", advice=(hint,))
    newest = client.sweeps().items
    return _explain_unknown_id(
        prefix, newest, noun="sweep", hint="`tandem sweeps` lists every sweep."
    )


def _explain_unknown_id(
    prefix: str, newest: "Sequence[Listed]", *, noun: str, hint: str
) -> ErrorMessage:
    """Suggest the newest run of this name, or those with a similar id."""
    from configs.suggestions import find_similar

    summary = f"No {noun}'s id starts with {prefix!r}."
    named = [item.id for item in newest if item.name == prefix][:1]
    if named:
        return ErrorMessage(summary, advice=(f"The newest {noun} of this name is {named[0]}.",))
    ids = {item.id[: len(prefix)]: item.id for item in newest}
    similar = find_similar(prefix, ids) if len(prefix) >= _MIN_SIMILAR_LENGTH else ()
    if similar:
        return ErrorMessage(summary, advice=(f"Did you mean {ids[similar[0]]}?",))
    return ErrorMessage(summary, advice=(hint,))


def match_id_prefix(prefix: str, runs: "Sequence[Listed]", *, noun: str = "run") -> str:
    """Return the id that equals `prefix`, or else the only one of `runs`, which start with it."""
    matches = [run for run in runs if run.id.startswith(prefix)]
    exact = [run for run in matches if run.id == prefix]
    if len(exact or matches) == 1:
        return (exact or matches)[0].id
    listed = matches[: _MATCHES - 1]
    count = f"More than {len(listed)}" if len(matches) > len(listed) else str(len(matches))
    raise CliError(
        ErrorMessage(
            f"{count} {noun}s have an id that starts with {prefix!r}.",
            fields=tuple((run.id, run.name) for run in listed),
            advice=("Give more characters of the id.",),
        )
    )


def list_all_runs(client: "RunReader", query: "RunQuery") -> "list[RunSummaryView]":
    """List all runs that match, in the order of the query; requests page after page."""
    runs: list[RunSummaryView] = []
    cursor: str | None = None
    while True:
        page = client.runs(query.model_copy(update={"cursor": cursor, "limit": _PAGE}))
        runs += page.items
        cursor = page.next_cursor
        if cursor is None:
            return runs
