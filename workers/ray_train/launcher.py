"""Has Ray train one run with several processes, and says how that ended if they cannot.

Beside `workers.search` the only place that imports ray. The driver runs no training and no mmdet:
what trains is imported where it trains, in `train_process`.
"""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError
from ray.train import get_context
from ray.train.torch import TorchConfig, get_device
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.result import Result
from ray.train.v2.torch.torch_trainer import TorchTrainer

from configs.protocol.failure import FailureReason
from configs.protocol.names import Env, ExitCode
from configs.protocol.records import Outcome
from configs.spec.compute import Resources
from workers.attempt.failures import classify_error, describe_error, exit_code_for, is_peer_failure
from workers.attempt.files import AttemptFiles, ProcessFailure, ProcessSpec
from workers.errors import Preempted
from workers.process.gpu_environment import GPU_VARIABLES, gpu_environment
from workers.telemetry.reporter import SpoolReporter

_PATIENCE_S = 25.0
"""After SIGTERM: Ray kills a job 30 s after it has asked it to end."""

_LOOK_EVERY_S = 0.5
_NODE_LABEL = "ray.io/node-id"
_OBJECT_STORE_BYTES = 80_000_000
_TRAIN_SETTINGS = {
    # Else every process works in a folder of its own, and logs what libraries print.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Seconds until processes that found no room are given up; torch may come over a network.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
}
_NO_RETRIES = FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0)
"""Another try is another attempt, which the service or a person starts."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """How many processes there are, and where none of them may be."""

    num_processes: int
    excluded_nodes: tuple[str, ...] = ()
    """Ray's ids of nodes."""

    @property
    def label_selector(self) -> dict[str, str] | None:
        """What Ray is told of nodes."""
        return (
            {_NODE_LABEL: f"!in({','.join(self.excluded_nodes)})"} if self.excluded_nodes else None
        )


def launch_processes(part: ProcessSpec, placement: Placement) -> ExitCode:
    """Train with several processes; every end is reported, none is raised.

    Their cluster is the one of `RAY_ADDRESS`, or one of their own that ends with them.
    """
    spec, identity, run_dir = part.spec, part.identity, Path(part.run_dir)
    slips = AttemptFiles.for_process(part)
    slips.clear()
    log.info("Trains with %d processes on Ray.", placement.num_processes)
    fit = _fit(part, placement=placement, slips=slips)
    failure = _failure_of(fit, slips)
    if failure is None:
        code: Any = fit.result().return_value
        return ExitCode(code)
    said = slips.read_outcome()
    if said is not None:
        return _exit_code_of_word(said)
    log.error("The attempt failed: %s: %s", failure.reason, failure.message)
    with SpoolReporter.open(run_dir, identity=identity, spec=spec) as reporter:
        reporter.report_outcome(
            "failed", reason=failure.reason, message=failure.message, node_id=failure.node_id
        )
    return exit_code_for(failure.reason)


def train_process(config: Mapping[str, str]) -> int:
    """What every process does; Ray finds it by its name."""
    part = ProcessSpec.model_validate_json(config["part"])
    node_id = ray.get_runtime_context().get_node_id()
    # Before anything that a broken node can make fail.
    AttemptFiles.for_process(part).write_node_id(get_context().get_world_rank(), node_id)
    from workers.ray_train.worker import run_process

    device = get_device() if part.spec.resources.num_gpus else None
    return int(run_process(part, device=device, node_id=node_id))


def _fit(part: ProcessSpec, *, placement: Placement, slips: AttemptFiles) -> Future[Result]:
    """What became of the group, for better or worse."""
    storage = Path(part.run_dir) / "ray" / f"attempt-{part.identity.attempt}"
    shutil.rmtree(storage, ignore_errors=True)
    try:
        with _cluster(part.spec.resources, count=placement.num_processes):
            leaving = _listen_for_sigterm()
            fit = _in_background(_trainer(part, placement=placement, storage=storage).fit)
            _attend(fit, leaving=leaving, slips=slips)
            if not fit.done():
                message = f"The processes did not leave within {_PATIENCE_S:g} s of SIGTERM."
                fit = _failed(Preempted(message))
    except ConnectionError as error:
        fit = _failed(error)
    shutil.rmtree(storage, ignore_errors=True)
    with suppress(OSError):
        storage.parent.rmdir()
    return fit


@contextmanager
def _cluster(asked: Resources, *, count: int) -> Iterator[None]:
    """Ray, connected; a cluster of our own has the cores that are asked and the GPUs there are."""
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": count * asked.num_cpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    # The processes write logs of their own; Ray would mix them here, cut and coloured.
    ray.init(
        **({} if "RAY_ADDRESS" in os.environ else own),
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _trainer(part: ProcessSpec, *, placement: Placement, storage: Path) -> TorchTrainer:
    asked = part.spec.resources
    has_gpus = asked.num_gpus > 0
    os.environ |= _TRAIN_SETTINGS
    env = process_environment(os.environ, has_gpus=has_gpus)
    return TorchTrainer(
        train_process,
        train_loop_config={"part": part.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if has_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=placement.num_processes,
            use_gpu=has_gpus,
            resources_per_worker={"CPU": asked.num_cpus, "GPU": asked.num_gpus},
            label_selector=placement.label_selector,
        ),
        run_config=RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            failure_config=_NO_RETRIES,
            worker_runtime_env={"env_vars": env},
        ),
    )


def process_environment(driver: Mapping[str, str], *, has_gpus: bool) -> dict[str, str]:
    """What the processes have in their environment beside their node's own.

    What an operator has set for the driver is handed on: theirs may be on other nodes.
    """
    env: dict[str, str] = {Env.ATTEMPT: driver.get(Env.ATTEMPT, "")}
    if not has_gpus:
        # Libraries make a context on any GPU that they see, whatever device they are given.
        return env | {"CUDA_VISIBLE_DEVICES": ""}
    handed_on = {name: driver[name] for name in GPU_VARIABLES if name in driver}
    return env | handed_on | gpu_environment(driver)


def _listen_for_sigterm() -> threading.Event:
    leaving = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    return leaving


def _in_background(step: Callable[[], Any]) -> Future[Result]:
    """A step in a thread that does not keep the process alive: it may hang with its cluster."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(step())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="fit", daemon=True).start()
    return future


def _failed(error: Exception) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def _attend(fit: Future[Result], *, leaving: threading.Event, slips: AttemptFiles) -> None:
    """Wait for the end; after SIGTERM only as long as is left."""
    while not fit.done() and not leaving.is_set():
        wait([fit], timeout=_LOOK_EVERY_S)
    if not fit.done():
        slips.request_stop()
        wait([fit], timeout=_PATIENCE_S)


def _failure_of(fit: Future[Result], slips: AttemptFiles) -> ProcessFailure | None:
    """Why the processes could not say how they ended; none if they could."""
    error = fit.exception()
    if error is None:
        return None
    return slips.read_failure() or failure_from_ray(error, nodes=slips.read_node_ids())


def failure_from_ray(error: BaseException, *, nodes: Mapping[int, str]) -> ProcessFailure:
    """What an error of Ray means for the attempt; `nodes` are those of the processes, by rank."""
    if isinstance(error, WorkerGroupError):
        return _failure_of_group(error.worker_failures, nodes)
    if isinstance(error, PreemptionError):
        return ProcessFailure(
            reason=FailureReason.PREEMPTED, message="A node of the cluster is drained."
        )
    if isinstance(error, ControllerError):
        message = f"The training processes could not be started: {error.controller_failure}"
        return ProcessFailure(reason=FailureReason.NODE_LOST, message=message)
    if isinstance(error, RayError | ConnectionError):
        return ProcessFailure(reason=FailureReason.NODE_LOST, message=describe_error(error))
    return ProcessFailure(reason=classify_error(error), message=describe_error(error))


def _failure_of_group(
    errors: Mapping[int, BaseException], nodes: Mapping[int, str]
) -> ProcessFailure:
    lost = {
        rank: error.health_check_failure
        for rank, error in errors.items()
        if isinstance(error, WorkerHealthCheckFailedError)
    }
    if any(isinstance(cause, OutOfMemoryError) for cause in lost.values()):
        message = f"A node ran out of memory ({_ranks(lost)})."
        return ProcessFailure(
            reason=FailureReason.HOST_OUT_OF_MEMORY,
            message=message,
            node_id=_common_node(lost, nodes),
        )
    if lost:
        message = f"A training process was lost ({_ranks(lost)})."
        return ProcessFailure(
            reason=FailureReason.NODE_LOST, message=message, node_id=_common_node(lost, nodes)
        )
    if all(is_peer_failure(error) for error in errors.values()):
        message = f"The training processes cannot reach each other ({_ranks(errors)})."
        return ProcessFailure(reason=FailureReason.NODE_LOST, message=message)
    rank = min(rank for rank, error in errors.items() if not is_peer_failure(error))
    first = errors[rank]
    return ProcessFailure(
        reason=classify_error(first),
        message=f"{describe_error(first)} (rank {rank})",
        node_id=nodes.get(rank),
    )


def _common_node(ranks: Iterable[int], nodes: Mapping[int, str]) -> str | None:
    """The node of all these processes; none if they were on several, or it is not known."""
    of_ranks = {nodes.get(rank) for rank in ranks}
    return of_ranks.pop() if len(of_ranks) == 1 else None


def _ranks(errors: Mapping[int, object]) -> str:
    return f"rank {', '.join(str(rank) for rank in sorted(errors))}"


def _exit_code_of_word(said: Outcome) -> ExitCode:
    if said.result == "succeeded":
        return ExitCode.SUCCEEDED
    if said.result == "stopped":
        return ExitCode.STOPPED
    if said.result == "cancelled" or said.reason is None:
        return ExitCode.CANCELLED
    return exit_code_for(said.reason)
