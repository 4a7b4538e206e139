# Every target sets up what it needs: a .venv with this package and its development tools.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run dev test check format bench bench-ingest bench-gpu bench-cpu leak-demo null-model clean

help: ## show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])'
	@echo 'Setting up $(VENV): about two minutes'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

run: $(STAMP) ## materialize the whole graph once [FROM=2023-07 TO=2024-06 RECIPE=demo SYMBOLS=A,B]
	@$(BIN)/flash_pipeline run $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO)) \
		$(if $(RECIPE),--recipe $(RECIPE)) $(if $(SYMBOLS),--symbols $(SYMBOLS))

dev: $(STAMP) ## serve the Dagster UI with the hourly schedule, and the MLflow UI, on loopback
	$(BIN)/flash_pipeline dev

test: $(STAMP) ## run the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(STAMP) ## lint, format, types, layers, definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate --workspace workspace.yaml

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## time the steps of the chain on this machine
	$(BIN)/python benchmarks/chain.py

bench-ingest: $(STAMP) ## measure the ingester against faults, kills and load: about ten minutes
	$(BIN)/python benchmarks/ingest

bench-gpu: $(STAMP) ## measure attention, training and inference on a GPU [ONLY=goals,kernels MISSING=1]
	$(BIN)/python -m benchmarks.gpu $(if $(ONLY),--only $(ONLY)) $(if $(MISSING),--missing)

bench-cpu: $(STAMP) ## measure the same themes at small sizes on this machine
	$(BIN)/python -m benchmarks.cpu

leak-demo: $(STAMP) ## show what shuffled folds report against a purged walk-forward [DATA=folder]
	@$(BIN)/python -m benchmarks.leak_demo $(if $(DATA),--data $(DATA))

null-model: $(STAMP) ## measure what the promotion gate makes of chance, and of a planted signal
	@$(BIN)/python -m benchmarks.null_model

clean: ## remove the environment and caches; data/ stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
