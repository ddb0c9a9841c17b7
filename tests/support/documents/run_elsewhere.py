"""Commands of the documents that other tests run, and those that no test can run, with the reason.

The keys are command lines as the documents have them, without comments.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunBy:
    """The test that runs a command."""

    test: str
    """Its node id."""

    arguments: str
    """Words of the command that the test, or the support code that it imports, contains."""


@dataclass(frozen=True)
class NotRun:
    """Why no test runs a command."""

    reason: str


TINY_DIGITS = (
    "docker compose run --rm tandem data digits --name digits-tiny "
    "--train 96 --val 16 --image-size 96"
)
"""Its dataset is needed by commands that follow; writing it takes 3 s."""

_STACK = "tests/e2e/test_stack.py"
_UP_AND_DOWN = f"{_STACK}::test_a_running_stack_is_complete_and_is_not_started_twice"
_CONTAINERS = "tests/compose/test_containers.py"
_KILLED_CONTAINERS = f"{_CONTAINERS}::test_nothing_is_lost_whichever_container_is_killed"
_TWO_CONTAINERS = (
    f"{_CONTAINERS}::test_a_run_of_two_processes_spans_two_containers_and_outlives_one"
)
_SCRAPED_CONTAINERS = f"{_CONTAINERS}::test_prometheus_can_answer_every_panel_and_every_rule"
_BCCD = (
    "tests/e2e/test_bccd.py::test_the_blood_cells_experiment_ends_with_its_table_and_is_found_again"
)
_OWN_DATA = (
    "tests/e2e/test_own_data.py::test_a_folder_of_photos_becomes_a_table_and_a_page_in_two_commands"
)
_BACKUP = "tests/integration/documents/test_postgres_commands.py"
_PIPED_BACKUP = "tests/security/test_machine_user.py::test_a_backup_in_a_pipe_leaves_no_file"
_REPRODUCTION = "tests/integration/cli/test_reproduce.py"
_AUTOPILOTS = "tests/unit/service/cli/outputs/test_autopilots.py"
_DOCTOR = "tests/integration/documents/test_documents.py::test_the_doctor_says_what_is_off"

_RUNS_TESTS = NotRun("it runs the tests themselves; the dry run shows that its recipe exists")
_NEEDS_NETWORK = NotRun("it downloads packages, and tests have no network")
_NEEDS_ENGINE = NotRun(
    "it needs an engine for containers, and the tests with one (tests/compose) do not use it; "
    "tests/house/test_documents.py compares its services and profiles with compose.yaml"
)
_NEEDS_MACHINES = NotRun("it needs a second machine")

MAKE: dict[str, RunBy | NotRun] = {
    "bccd": RunBy(_BCCD, "bccd --data"),
    "bench": RunBy(
        "tests/bench/test_main.py::test_a_part_is_measured_printed_and_written", "tests.bench"
    ),
    "bench-packs": RunBy(
        "tests/bench/test_packs.py::"
        "test_four_students_of_digits_cost_one_teacher_and_four_students",
        "tests.bench.packs",
    ),
    "bench-control": RunBy(
        "tests/bench/test_control.py::test_every_row_is_measured_on_both_databases",
        "--sizes",
    ),
    "check": NotRun("`.ci/run` runs it before the tests"),
    "compose-test": _RUNS_TESTS,
    "dashboards": RunBy(
        "tests/house/test_dashboards.py::test_the_dashboards_are_what_the_generator_makes",
        "dashboards.generate",
    ),
    "distill": RunBy(_OWN_DATA, "distill"),
    "demo": RunBy(
        "tests/e2e/test_demo.py::test_the_demo_ends_with_a_conclusion_over_its_seeds_and_a_page",
        "demo --seeds",
    ),
    "format": NotRun("it changes the files of this tree"),
    "gpu-check": _RUNS_TESTS,
    "lock": _NEEDS_NETWORK,
    "pin-images": NotRun("it asks a registry, and tests have no network"),
    "sbom": _NEEDS_NETWORK,
    "setup": RunBy(
        "tests/house/test_set_up.py::test_setup_runs_again_only_when_the_device_is_another",
        "docker/setup.sh FORCE_CUDA",
    ),
    "sweep-demo": RunBy(
        "tests/e2e/test_sweep.py::test_the_demo_searches_and_writes_its_page", "sweep-demo"
    ),
    "teacher": NotRun("the run that it exports trains for half an hour"),
    "test": _RUNS_TESTS,
    "test-all": _RUNS_TESTS,
    "test-chaos": _RUNS_TESTS,
}
"""By target of the Makefile; each command line of make is also run with `--dry-run`."""

COMMANDS: dict[str, RunBy | NotRun] = {
    ".venv/bin/python docker/run_uv.py pip install NAME==VERSION": RunBy(
        "tests/house/test_installer.py::test_a_machine_behind_a_mirror_installs_from_there",
        "run_uv.py pip install",
    ),
    "apt-get install git make g++ python3-dev python3-venv": _NEEDS_NETWORK,
    "apt-get install postgresql": _NEEDS_NETWORK,
    "apt-get install prometheus": _NEEDS_NETWORK,
    "docker build -f docker/Dockerfile --target worker --build-arg DEVICE=cuda .": _NEEDS_ENGINE,
    "docker compose --profile gpu up --build --detach --scale ray-worker=0": NotRun(
        "it needs an engine for containers with GPUs"
    ),
    "docker compose --profile observability up --detach": RunBy(
        _SCRAPED_CONTAINERS, "--profile observability up --detach"
    ),
    "docker compose build": RunBy(_KILLED_CONTAINERS, "build"),
    "docker compose build service": RunBy(_KILLED_CONTAINERS, "build service"),
    "docker compose down": RunBy(_KILLED_CONTAINERS, "down"),
    "docker compose down --volumes": RunBy(_KILLED_CONTAINERS, "down --volumes"),
    "docker compose exec -T service tandem backup - > before.zip": RunBy(_PIPED_BACKUP, "backup -"),
    "docker compose exec -T service tandem backup - > monday.zip": RunBy(_PIPED_BACKUP, "backup -"),
    "docker compose run --rm --no-deps -T service restore - < monday.zip": RunBy(
        _PIPED_BACKUP, "restore -"
    ),
    "docker compose exec -T postgres pg_dump --username postgres --format custom mlflow "
    "> mlflow.dump": RunBy(
        f"{_BACKUP}::test_the_database_of_mlflow_is_dumped_and_restored", "pg_dump OPERATING.md"
    ),
    "docker compose exec -T postgres pg_restore --username postgres --dbname mlflow --no-owner "
    "--role mlflow < mlflow.dump": RunBy(
        f"{_BACKUP}::test_the_database_of_mlflow_is_dumped_and_restored", "pg_restore OPERATING.md"
    ),
    "docker compose exec grafana grafana cli admin reset-admin-password NEW": _NEEDS_ENGINE,
    r"docker compose exec postgres psql --username postgres --command '\password tandem'": NotRun(
        "it prompts for a password"
    ),
    "docker compose exec ray-worker-gpu tandem-worker doctor": RunBy(
        "tests/gpu/test_01_doctor.py::"
        "test_the_doctor_names_the_gpu_and_finds_nothing_wrong_with_it",
        "doctor",
    ),
    "docker compose exec service tandem doctor": RunBy(_DOCTOR, "tandem doctor"),
    "docker compose logs ray-worker": _NEEDS_ENGINE,
    "docker compose logs ray-worker-gpu": _NEEDS_ENGINE,
    "docker compose ps": _NEEDS_ENGINE,
    TINY_DIGITS: RunBy(
        _KILLED_CONTAINERS, "data digits --name digits-tiny --train 96 --val 16 --image-size"
    ),
    "docker compose up --build --detach": RunBy(_KILLED_CONTAINERS, "build up --detach"),
    "docker compose up --detach": RunBy(_KILLED_CONTAINERS, "up --detach"),
    "docker compose up --detach --no-deps service": _NEEDS_ENGINE,
    "docker compose up --detach --scale ray-worker=3": RunBy(
        _TWO_CONTAINERS, "up --detach --scale ray-worker=3"
    ),
    "docker compose up --detach postgres": _NEEDS_ENGINE,
    "docker run --detach --restart unless-stopped --init --gpus all --shm-size 16g "
    "--ulimit memlock=-1 --network tandem_cluster --volume tandem_checkpoints:/var/lib/tandem "
    '--env RAY_AUTH_TOKEN="$(sed -n s/^RAY_AUTH_TOKEN=//p .env)" tandem-worker-cuda:dev worker': (
        _NEEDS_MACHINES
    ),
    "docker swarm init": _NEEDS_MACHINES,
    "docker swarm join": _NEEDS_MACHINES,
    "docker/mmcv-wheel.sh": RunBy(
        "tests/house/test_set_up.py::test_a_gpu_without_a_compiler_is_named_and_the_cpu_is_used",
        "mmcv-wheel.sh",
    ),
    "docker/setup.sh": RunBy(
        "tests/house/test_set_up.py::test_setup_runs_again_only_when_the_device_is_another",
        "docker/setup.sh",
    ),
    "git pull": NotRun("it needs the network and changes the tree"),
    "mlflow models serve --env-manager local --model-uri ~/.tandem/runs/r8x2.../export/mlflow": (
        RunBy(
            "tests/training/jobs/test_export.py::test_mlflow_serves_the_model_over_http",
            "models serve --env-manager local --model-uri mlflow",
        )
    ),
    "mlflow server --expose-prometheus FOLDER": RunBy(
        "tests/e2e/test_dashboards.py::test_prometheus_can_answer_every_panel_and_every_rule",
        "EXPOSE_PROMETHEUS",
    ),
    "sudo -u postgres psql -c \"CREATE ROLE tandem LOGIN PASSWORD 'choose one'\" "
    '-c "CREATE DATABASE tandem OWNER tandem"': RunBy(
        f"{_BACKUP}::test_tandem_runs_on_the_database_that_the_operator_creates",
        "psql operate.md",
    ),
    "tandem autopilot cells --data digits --budget 6h --plan": RunBy(
        f"{_AUTOPILOTS}::test_a_plan_is_shown_after_the_probes", "autopilot --data --budget --plan"
    ),
    "tandem autopilot cells --data digits --budget 6h --students resnet18,resnet34 "
    "--latency 20ms": RunBy(
        f"{_AUTOPILOTS}::test_the_options_become_the_request", "autopilot --students --latency"
    ),
    "tandem bccd --data ~/BCCD schedule.epochs=12": RunBy(_BCCD, "bccd --data"),
    "tandem data show photos": RunBy(_OWN_DATA, "data show photos"),
    "tandem distill photos --teacher r3k9...": RunBy(_OWN_DATA, "distill photos --teacher"),
    "tandem distill ~/BCCD --name bccd --drop-bad": RunBy(_BCCD, "bccd --data"),
    "tandem distill ~/photos": RunBy(_OWN_DATA, "distill photos"),
    "tandem distill ~/photos --epochs 12 --seeds 0,1,2": RunBy(
        _OWN_DATA, "distill photos --epochs --seeds"
    ),
    "tandem distill ~/photos --plan": RunBy(_OWN_DATA, "distill photos --plan"),
    "tandem doctor": RunBy(_DOCTOR, "tandem doctor"),
    "tandem down": RunBy(_UP_AND_DOWN, "down"),
    "tandem predict r3k9... photo.jpg": RunBy(
        "tests/e2e/test_jobs.py::test_a_student_is_measured_exported_and_asked", "predict"
    ),
    "tandem reproduce bckd --dry-run": RunBy(
        f"{_REPRODUCTION}::test_a_dry_run_launches_nothing", "bckd --dry-run"
    ),
    "tandem reproduce bckd --rows r50,r18 --scale 1/10": RunBy(
        f"{_REPRODUCTION}::test_a_smaller_scale_is_another_run_with_fewer_images", "--scale 1/10"
    ),
    "tandem reproduce bckd --rows r50,r18 --scale 1/10 --report": RunBy(
        f"{_REPRODUCTION}::test_the_report_has_published_and_measured_gains", "bckd --report"
    ),
    "tandem reproduce crosskd resources.num_cpus=4": RunBy(
        f"{_REPRODUCTION}::test_changes_apply_to_every_row", "crosskd resources.num_cpus=4"
    ),
    "tandem teachers fetch gfl-r101-coco-2x-ms": RunBy(
        "tests/integration/cli/test_teacher_download.py::"
        "test_another_file_than_the_known_one_is_not_registered",
        "teachers fetch gfl-r101-coco-2x-ms",
    ),
    "tandem up": RunBy(_UP_AND_DOWN, "up"),
    "tandem-worker cleanup --service-url URL": RunBy(
        "tests/unit/workers/attempt/test_cleanup.py::"
        "test_the_command_sends_the_token_and_prints_what_it_terminated",
        "cleanup --service-url",
    ),
    "tandem-worker data show ~/.tandem/datasets/cells": RunBy(
        "tests/unit/workers/cli/test_data.py::"
        "test_an_older_import_gets_its_statistics_when_it_is_shown",
        "show",
    ),
    "tandem-worker doctor": RunBy(
        "tests/unit/workers/cli/test_doctor.py::test_all_checks_run_on_this_machine", "run_checks"
    ),
    "tandem-worker flush --run-dir DIR": RunBy(
        "tests/unit/support/test_worker_processes.py::"
        "test_a_fork_has_the_environment_and_the_folder_of_whoever_starts_it",
        "flush --run-dir",
    ),
    "tandem-worker methods": RunBy(
        "tests/unit/workers/distillation/test_catalog.py::test_the_command_computes_golden_cases",
        '"methods"',
    ),
    "tandem-worker sweep-driver --sweep ID --service-url URL": RunBy(
        "tests/integration/stack/ray/test_search_driver.py::"
        "test_a_sweep_of_eight_trials_halves_them_and_is_closed",
        "sweep-driver --sweep --service-url",
    ),
    "tandem-worker teachers import epoch_24.pth --name mine --preset coco/teacher_r101 "
    "--out ~/.tandem/teachers": RunBy(
        "tests/training/jobs/test_teacher_import.py::"
        "test_the_original_file_of_the_papers_teacher_fits_its_preset",
        "import --name --preset coco/teacher_r101 --out",
    ),
    "tandem-worker train --spec FILE --run-dir DIR": RunBy(
        "tests/training/runs/test_compute_options.py::test_images_of_many_scales_train",
        "train --spec --run-dir",
    ),
    "tandem-worker train --spec spec.yaml --run-dir runs/one": RunBy(
        "tests/training/runs/test_bccd_train.py::test_a_students_own_microscope_images_train",
        "train --spec spec.yaml --run-dir",
    ),
    "uv pip install --no-deps --editable .": _NEEDS_NETWORK,
}
