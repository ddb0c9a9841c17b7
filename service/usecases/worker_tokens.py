"""Secrets of workers and drivers, as files in their folders: other users see command lines."""

from pathlib import Path

from configs.addresses import remove_credentials
from configs.protocol.names import RunFile
from service.domain.access import make_worker_token
from service.usecases.context import Context


def write_worker_token(folder: Path, subject_id: str, number: int, *, ctx: Context) -> None:
    """Write the token of an attempt of a run, or of a driver of a sweep, into its folder.

    Writes nothing while access control is off.
    """
    if ctx.signing_key is not None:
        token = make_worker_token(subject_id, number, key=ctx.signing_key)
        ctx.files.write(folder / RunFile.TOKEN, token, is_secret=True)


def write_mlflow_url(run_dir: Path, *, ctx: Context) -> None:
    """Write MLflow's address into a run's folder, if it has a user name or password.

    One that an earlier attempt was given is replaced, also by an address without.
    """
    file = run_dir / RunFile.MLFLOW_URL
    if ctx.mlflow_url != remove_credentials(ctx.mlflow_url) or ctx.files.has(file):
        ctx.files.write(file, ctx.mlflow_url, is_secret=True)


def token_file_options(folder: Path, *, ctx: Context) -> tuple[str, ...]:
    """The options of `tandem-worker` that name the token in a folder, if there is one."""
    return () if ctx.signing_key is None else ("--token-file", str(folder / RunFile.TOKEN))
