# `make demo` and `make test` work in a fresh clone; the other targets are for developers.
BIN := .venv/bin
TEACHER ?= shipped
SEED ?= 0
SEEDS ?= 0,1,2,3

.PHONY: setup demo demo-search distill bccd data-folder test test-all test-chaos gpu-check compose-test sweep-demo bench bench-packs bench-control \
  check format lock sbom pin-images dashboards up down doctor clean teacher

setup: ## Creates or updates the environment in .venv.
	@docker/setup.sh

demo: setup ## Trains students with and without distillation; prints a table and writes a report.
	@$(BIN)/tandem demo --teacher $(TEACHER) --seeds $(SEEDS)

demo-search: setup ## Repeats the search that chose the settings of the demo.
	@$(BIN)/tandem demo-search

distill: data-folder setup ## The demo on your own images: make distill DATA=FOLDER
	@docker/weights.sh $(BIN)/python
	@$(BIN)/tandem distill $(DATA)

bccd: data-folder setup ## The demo on blood cell images, with pretrained backbones: make bccd DATA=FOLDER
	@docker/weights.sh $(BIN)/python
	@$(BIN)/tandem bccd --data $(DATA) --seed $(SEED)

data-folder: # Checked before the setup, which takes minutes.
	@test -n "$(DATA)" || { echo "Pass the folder of images: make $(firstword $(MAKECMDGOALS)) DATA=FOLDER"; exit 2; }

# Processes of the default tests: one more than there are cores, because many tests wait for other processes.
test: TEST_PROCESSES ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
test: setup ## Runs the default tests, about 10 minutes on 2 cores.
	@$(BIN)/pytest -n $(TEST_PROCESSES) --maxprocesses 4 --durations=10

test-all: setup ## Runs all tests, including slow ones and those that need a GPU.
	@$(BIN)/pytest -m ''

test-chaos: setup ## Kills every component while runs train, and prints what was lost.
	@TANDEM_CHAOS_EXAMPLES=300 TANDEM_API_EXAMPLES=100 $(BIN)/pytest -m 'chaos or not chaos' \
	  tests/chaos tests/integration/loops/test_random_faults.py tests/integration/api/test_openapi.py

gpu-check: $(if $(GPU_CHECK_PYTHON),,setup) ## Runs the tests that need a GPU, at most ten minutes; writes a table of measurements.
	@$(or $(GPU_CHECK_PYTHON),$(BIN)/python) -m pytest -m gpu -v --tb=short --continue-on-collection-errors \
	  -p tests.support.gpu.report --gpu-report $(or $(GPU_CHECK_REPORT),build/gpu-check) tests/gpu

compose-test: setup ## Builds the images, runs all containers and kills each of them.
	@$(BIN)/pytest -m compose tests/compose

sweep-demo: setup ## Searches the loss weights of BCKD on digits: 12 trials in packs; writes a report.
	@$(BIN)/tandem sweep-demo

bench: setup ## Measures step, losses, evaluation, data and start; set BCKD_CHECKOUT for the published code.
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench $(BENCH_OPTIONS)

bench-packs: setup ## Measures what packs save: K students with one teacher against separate runs.
	@$(BIN)/python -m tests.bench.packs

bench-control: setup ## Measures loops, pages, launches and memory with up to a million stored runs; half an hour.
	@$(BIN)/python -m tests.bench.control $(BENCH_OPTIONS)

check: setup ## Checks style, types and import contracts.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Fixes style and formatting.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

up: setup ## Starts the stack: Ray, MLflow and the service.
	@$(BIN)/tandem up

down: ## Stops the stack.
	@$(BIN)/tandem down

doctor: setup ## Checks this machine and the stack, and shows how to fix what fails.
	@$(BIN)/tandem doctor

lock: setup ## Writes docker/environment.lock from the present environment.
	@docker/lock.sh $(BIN)/python

sbom: setup ## Writes what is in each image to build/sbom (CycloneDX).
	@docker/sbom.sh $(BIN)/python

pin-images: ## Writes the digests of the base images to docker/base-images.txt; needs their registry.
	@python3 docker/pin_images.py

dashboards: setup ## Generates Grafana's dashboards from dashboards/generate.
	@$(BIN)/python -m dashboards.generate

clean: ## Removes the environment; the compiled mmcv-full remains cached.
	rm -rf .venv

teacher: setup ## Exports the digits teacher from a finished run of digits/teacher: make teacher RUN_DIR=...
	@$(BIN)/tandem-worker make-teacher --run-dir $(RUN_DIR) --name digits-teacher --out configs/teachers
