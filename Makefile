# Everything a clone needs: make demo | test | lint | docs | bench. Each installs into .venv first, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Extra pip arguments for torch alone, for instance an index with CPU-only builds.
TORCH_ARGS ?=
# Extra arguments for pytest and for the benchmark runner.
ARGS ?=
# The oracle ships wheels for Linux only; elsewhere the tests that need it skip.
ORACLE := $(if $(filter Linux,$(shell uname -s)),torch-harmonics==0.9.3,)

.PHONY: install demo test lint format docs bench build clean

install: $(STAMP)

# torch goes first, so that the pinned build already chosen is not replaced while the rest is resolved.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt $(TORCH_ARGS) torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[train,climate,compression,nifti,tiff,hub,onnx,dev,docs]"
	$(if $(ORACLE),$(BIN)/python -m pip install -q --no-deps $(ORACLE))
	touch $@

demo: install
	$(BIN)/spheregeo demo

# Two pytest workers with one thread each.
test: install
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Warnings, broken links among them, are errors. The site is build/site/index.html.
docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html -c docs . build/site

bench: install
	$(BIN)/python benchmarks/run.py $(ARGS)

build: install
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache
