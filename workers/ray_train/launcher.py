"""Trains one run with several processes on Ray Train, and reports failures that they cannot report.

Only this module and `workers.search` import ray. The driver does not import torch training code or
mmdet; `train_process` imports it in the training processes.
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

_STOP_TIMEOUT_S = 25.0
"""After SIGTERM; Ray kills a job 30 s after it."""

_POLL_INTERVAL_S = 0.5
_NODE_LABEL = "ray.io/node-id"
_OBJECT_STORE_BYTES = 80_000_000
_TRAIN_SETTINGS = {
    # Otherwise each process changes to a folder of its own, and logs what libraries print.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # In seconds: how long processes may wait for resources and for importing torch.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
}
_NO_RETRIES = FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0)
"""A retry is a new attempt, which the service or a person starts."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """How many processes there are, and on which nodes none of them may run."""

    num_processes: int
    excluded_nodes: tuple[str, ...] = ()
    """Ray's ids of nodes."""

    @property
    def label_selector(self) -> dict[str, str] | None:
        """For `ScalingConfig`; None without excluded nodes."""
        return (
            {_NODE_LABEL: f"!in({','.join(self.excluded_nodes)})"} if self.excluded_nodes else None
        )


def launch_processes(process_spec: ProcessSpec, placement: Placement) -> ExitCode:
    """Train with several processes and report how the attempt ended; no exception leaves it.

    Uses the cluster of `RAY_ADDRESS`, or starts a local one for this run.
    """
    spec, identity, run_dir = process_spec.spec, process_spec.identity, Path(process_spec.run_dir)
    files = AttemptFiles.for_process(process_spec)
    files.clear()
    log.info("Training with %d processes on Ray.", placement.num_processes)
    future = _fit(process_spec, placement=placement, files=files)
    failure = _find_failure(future, files)
    if failure is None:
        exit_code: Any = future.result().return_value
        return ExitCode(exit_code)
    outcome = files.read_outcome()
    if outcome is not None:
        return _exit_code_of_outcome(outcome)
    log.error("The attempt failed: %s: %s", failure.reason, failure.message)
    with SpoolReporter.open(run_dir, identity=identity, spec=spec) as reporter:
        reporter.report_outcome(
            "failed", reason=failure.reason, message=failure.message, node_id=failure.node_id
        )
    return exit_code_for(failure.reason)


def train_process(config: Mapping[str, str]) -> int:
    """The training function of Ray Train, which each process calls."""
    process_spec = ProcessSpec.model_validate_json(config["process_spec"])
    node_id = ray.get_runtime_context().get_node_id()
    # First, because on a broken node anything else may fail.
    AttemptFiles.for_process(process_spec).write_node_id(get_context().get_world_rank(), node_id)
    from workers.ray_train.worker import run_process

    device = get_device() if process_spec.spec.resources.num_gpus else None
    return int(run_process(process_spec, device=device, node_id=node_id))


def _fit(process_spec: ProcessSpec, *, placement: Placement, files: AttemptFiles) -> Future[Result]:
    """Run the training; returns a finished future with its result or exception."""
    storage = Path(process_spec.run_dir) / "ray" / f"attempt-{process_spec.identity.attempt}"
    shutil.rmtree(storage, ignore_errors=True)
    try:
        with _connect(process_spec.spec.resources, num_processes=placement.num_processes):
            terminate_requested = _install_sigterm_handler()
            trainer = _build_trainer(process_spec, placement=placement, storage=storage)
            future = _run_in_background(trainer.fit)
            _wait(future, terminate_requested=terminate_requested, files=files)
            if not future.done():
                message = f"The processes did not stop within {_STOP_TIMEOUT_S:g} s of SIGTERM."
                future = _failed(Preempted(message))
    except ConnectionError as error:
        future = _failed(error)
    shutil.rmtree(storage, ignore_errors=True)
    with suppress(OSError):
        storage.parent.rmdir()
    return future


@contextmanager
def _connect(resources: Resources, *, num_processes: int) -> Iterator[None]:
    """A connection to Ray; a local cluster has the requested cores and all GPUs of the machine."""
    local: dict[str, Any] = {
        "address": "local",
        "num_cpus": num_processes * resources.num_cpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    # The processes write their own logs; Ray would mix them here, truncated and colored.
    ray.init(
        **({} if "RAY_ADDRESS" in os.environ else local),
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _build_trainer(
    process_spec: ProcessSpec, *, placement: Placement, storage: Path
) -> TorchTrainer:
    resources = process_spec.spec.resources
    has_gpus = resources.num_gpus > 0
    os.environ |= _TRAIN_SETTINGS
    env = process_environment(os.environ, has_gpus=has_gpus)
    return TorchTrainer(
        train_process,
        train_loop_config={"process_spec": process_spec.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if has_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=placement.num_processes,
            use_gpu=has_gpus,
            resources_per_worker={"CPU": resources.num_cpus, "GPU": resources.num_gpus},
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
    """Environment variables that the processes get in addition to those of their nodes.

    GPU settings of the driver's environment are included, because the processes may be on nodes
    that do not have them.
    """
    env: dict[str, str] = {Env.ATTEMPT: driver.get(Env.ATTEMPT, "")}
    if not has_gpus:
        # Libraries create a context on any GPU that they see, whatever device they are given.
        return env | {"CUDA_VISIBLE_DEVICES": ""}
    inherited = {name: driver[name] for name in GPU_VARIABLES if name in driver}
    return env | inherited | gpu_environment(driver)


def _install_sigterm_handler() -> threading.Event:
    terminate_requested = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminate_requested.set())
    return terminate_requested


def _run_in_background(function: Callable[[], Any]) -> Future[Result]:
    """Call it in a daemon thread, which does not keep the process alive if the cluster hangs."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="fit", daemon=True).start()
    return future


def _failed(error: Exception) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def _wait(
    future: Future[Result], *, terminate_requested: threading.Event, files: AttemptFiles
) -> None:
    """Wait until training has ended, or `_STOP_TIMEOUT_S` after SIGTERM."""
    while not future.done() and not terminate_requested.is_set():
        wait([future], timeout=_POLL_INTERVAL_S)
    if not future.done():
        files.request_stop()
        wait([future], timeout=_STOP_TIMEOUT_S)


def _find_failure(future: Future[Result], files: AttemptFiles) -> ProcessFailure | None:
    """Why the training function raised; None if it returned an exit code."""
    error = future.exception()
    if error is None:
        return None
    return files.read_failure() or failure_from_ray(error, nodes=files.read_node_ids())


def failure_from_ray(error: BaseException, *, nodes: Mapping[int, str]) -> ProcessFailure:
    """The failure that an exception of Ray stands for; `nodes` are node ids by rank."""
    if isinstance(error, WorkerGroupError):
        return _failure_from_worker_group(error.worker_failures, nodes)
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


def _failure_from_worker_group(
    errors: Mapping[int, BaseException], nodes: Mapping[int, str]
) -> ProcessFailure:
    lost = {
        rank: error.health_check_failure
        for rank, error in errors.items()
        if isinstance(error, WorkerHealthCheckFailedError)
    }
    if any(isinstance(cause, OutOfMemoryError) for cause in lost.values()):
        message = f"A node ran out of memory ({_format_ranks(lost)})."
        return ProcessFailure(
            reason=FailureReason.HOST_OUT_OF_MEMORY,
            message=message,
            node_id=_common_node(lost, nodes),
        )
    if lost:
        message = f"A training process was lost ({_format_ranks(lost)})."
        return ProcessFailure(
            reason=FailureReason.NODE_LOST, message=message, node_id=_common_node(lost, nodes)
        )
    if all(is_peer_failure(error) for error in errors.values()):
        message = f"The training processes cannot reach each other ({_format_ranks(errors)})."
        return ProcessFailure(reason=FailureReason.NODE_LOST, message=message)
    rank = min(rank for rank, error in errors.items() if not is_peer_failure(error))
    first = errors[rank]
    return ProcessFailure(
        reason=classify_error(first),
        message=f"{describe_error(first)} (rank {rank})",
        node_id=nodes.get(rank),
    )


def _common_node(ranks: Iterable[int], nodes: Mapping[int, str]) -> str | None:
    """The node of all these processes; None if they were on several, or it is not known."""
    node_ids = {nodes.get(rank) for rank in ranks}
    return node_ids.pop() if len(node_ids) == 1 else None


def _format_ranks(errors: Mapping[int, object]) -> str:
    return f"rank {', '.join(str(rank) for rank in sorted(errors))}"


def _exit_code_of_outcome(outcome: Outcome) -> ExitCode:
    if outcome.result == "succeeded":
        return ExitCode.SUCCEEDED
    if outcome.result == "stopped":
        return ExitCode.STOPPED
    if outcome.result == "cancelled" or outcome.reason is None:
        return ExitCode.CANCELLED
    return exit_code_for(outcome.reason)
