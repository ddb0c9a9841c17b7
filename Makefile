# `make demo` and `make test` do everything from a fresh clone; the rest is for developers.
BIN := .venv/bin
TEACHER ?= shipped
SEED ?= 0
SEEDS ?= 0,1,2,3

.PHONY: setup demo demo-search bccd bccd-data test test-all test-chaos gpu-check compose-test sweep-demo bench-packs check format lock \
  dashboards up down doctor clean teacher

setup: ## The environment in .venv; does nothing when it is up to date.
	@docker/setup.sh

demo: setup ## Does distillation help? Pairs of students over REST, then a table and a page.
	@$(BIN)/tandem demo --teacher $(TEACHER) --seeds $(SEEDS)

demo-search: setup ## The search that chose the setting of the demo, on other seeds.
	@$(BIN)/tandem demo-search

bccd: bccd-data setup ## The same on real blood cell images, with pretrained backbones: make bccd DATA=FOLDER
	@docker/weights.sh $(BIN)/python
	@$(BIN)/tandem bccd --data $(DATA) --seed $(SEED)

bccd-data: # Before the set-up, which takes minutes.
	@test -n "$(DATA)" || { echo "Say where BCCD is: make bccd DATA=FOLDER"; exit 2; }

# How many processes share the default tests: a number, or `logical` for one a core.
test: TEST_PROCESSES ?= logical
test: setup ## The default tests, 13 minutes on 2 cores.
	@$(BIN)/pytest -n $(TEST_PROCESSES) --maxprocesses 4 --durations=10

test-all: setup ## Every test, the slow ones and those for a GPU included.
	@$(BIN)/pytest -m ''

test-chaos: setup ## Everything is killed while runs train, and a table says what was lost.
	@TANDEM_CHAOS_EXAMPLES=300 TANDEM_API_EXAMPLES=100 $(BIN)/pytest -m 'chaos or not chaos' \
	  tests/chaos tests/integration/loops/test_random_faults.py tests/integration/api/test_openapi.py

gpu-check: $(if $(GPU_CHECK_PYTHON),,setup) ## What only a GPU shows, and a table of it; ten minutes at most.
	@$(or $(GPU_CHECK_PYTHON),$(BIN)/python) -m pytest -m gpu -v --tb=short --continue-on-collection-errors \
	  -p tests.support.gpu.report --gpu-report $(or $(GPU_CHECK_REPORT),build/gpu-check) tests/gpu

compose-test: setup ## Builds the images, runs everything as containers and kills one after the other.
	@$(BIN)/pytest -m compose tests/compose

sweep-demo: setup ## The weights of BCKD searched on digits: 12 trials in packs, and a report's page.
	@$(BIN)/tandem sweep-demo

bench-packs: setup ## What packs save: K students with one teacher against one after the other.
	@$(BIN)/python -m tests.bench.packs

check: setup ## Style, types and import arrows.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

up: setup ## The stack: Ray, MLflow and the service.
	@$(BIN)/tandem up

down: ## Stops the stack.
	@$(BIN)/tandem down

doctor: setup ## What is off, and what to do about it.
	@$(BIN)/tandem doctor

lock: setup ## Writes docker/environment.lock from the environment as it is.
	@docker/lock.sh $(BIN)/python

dashboards: setup ## Writes Grafana's dashboards from dashboards/generate.
	@$(BIN)/python -m dashboards.generate

clean: ## Removes the environment; the compiled mmcv-full stays cached.
	rm -rf .venv

teacher: setup ## Packs the digits teacher from a finished run of digits/teacher: make teacher RUN_DIR=...
	@$(BIN)/tandem-worker make-teacher --run-dir $(RUN_DIR) --name digits-teacher --out configs/teachers
