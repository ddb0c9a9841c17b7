"""Asks the workers which methods of other packages they have.

A small Ray job prints them (`tandem-worker methods --json`). Its log is the answer, which every
process of the service reads: nothing is stored, and jobs are numbered.
"""

from bisect import bisect_left

from pydantic import ValidationError

from configs.protocol.methods import MethodCatalog
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.errors.conflicts import MethodsUnknown
from service.domain.errors.systems import ClusterUnreachable
from service.domain.planning.methods import CatalogState, needs_catalog, pin_methods
from service.domain.ports import Job, JobRequest
from service.usecases.context import Context

_JOB = "tandem-methods-"
_MAX_JOBS = 8
"""How many of the newest jobs may have failed before an older answer no longer counts."""

_COMMAND = ("tandem-worker", "methods", "--json")


def look_up_methods(*, ctx: Context) -> CatalogState:
    """What the workers last answered; a Ray that does not answer is the state's problem."""
    try:
        return _read_state(*_find_last_job(ctx), ctx=ctx)
    except ClusterUnreachable as error:
        return CatalogState(problem=str(error))


def refresh_methods(*, ctx: Context) -> CatalogState:
    """Ask the workers, unless a job is asking them already."""
    try:
        last_number, last_job = _find_last_job(ctx)
        state = _read_state(last_number, last_job, ctx=ctx)
        if state.is_pending:
            return state
        job_id = f"{_JOB}{last_number + 1}"
        ctx.cluster.submit(JobRequest(job_id, _COMMAND, num_cpus=0, num_gpus=0, metadata={}))
    except ClusterUnreachable as error:
        return CatalogState(problem=str(error))
    return CatalogState(state.catalog, is_pending=True)


def get_catalog(*, ctx: Context) -> MethodCatalog:
    """The methods that the workers have; without an answer, asks and raises `MethodsUnknown`."""
    state = look_up_methods(ctx=ctx)
    if state.catalog is not None:
        return state.catalog
    refresh_methods(ctx=ctx)
    raise MethodsUnknown(problem=state.problem)


def pin_requested_methods(spec: JobSpec, *, ctx: Context) -> JobSpec:
    """As `pin_methods`, for specs of all tasks; the workers are asked only if one needs it."""
    if not isinstance(spec, RunSpec) or not needs_catalog(spec):
        return spec
    return pin_methods(spec, get_catalog(ctx=ctx))


def _read_state(last_number: int, last_job: Job | None, *, ctx: Context) -> CatalogState:
    """The newest answer, and whether the last job is still asking."""
    newest = range(last_number, max(0, last_number - _MAX_JOBS), -1)
    is_pending = last_job is not None and not last_job.is_over
    for number in newest:
        job = last_job if number == last_number else ctx.cluster.get_job(f"{_JOB}{number}")
        if job is None or job.state != "succeeded":
            continue
        if (catalog := _read_answer(number, ctx=ctx)) is not None:
            return CatalogState(catalog, is_pending)
    problem = None if last_job is None or is_pending else last_job.message or last_job.state
    return CatalogState(None, is_pending, problem)


def _find_last_job(ctx: Context) -> tuple[int, Job | None]:
    """Number and state of the last job, 0 and None before the first one.

    It is found in a logarithm of its number of requests.
    """
    jobs: dict[int, Job | None] = {}

    def is_free(number: int) -> bool:
        jobs[number] = ctx.cluster.get_job(f"{_JOB}{number}")
        return jobs[number] is None

    bound = 1
    while not is_free(bound):
        bound *= 2
    number = bisect_left(range(bound), True, lo=bound // 2 + 1, key=is_free) - 1
    return number, jobs.get(number)


def _read_answer(number: int, *, ctx: Context) -> MethodCatalog | None:
    """The catalog in a job's log, among whatever libraries print; None if there is none."""
    for line in reversed(ctx.cluster.logs(f"{_JOB}{number}").splitlines()):
        try:
            return MethodCatalog.model_validate_json(line, extra="ignore")
        except ValidationError:
            continue
    return None
