# The commands people type, and the ones CI runs. `make` alone lists them.

VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile
# pip compiles file after file, tests of libraries too: more than half of an installation.
# On all cores and without them it takes a third; what is left out is compiled on use.
UNUSED := /tests?/|/pip/|/setuptools/|/tools/|/reference/ops|/transformers/|/torch/|/tensorflow/
COMPILE := $(VENV)/bin/python -m compileall -q -j 0 -x '$(UNUSED)' $(VENV)/lib src
JOBS ?= 2
TF_PYTHON := $(VENV)/tensorflow/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo demo-stop test frameworks check bench bench-optimize soak docs wheels format clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-15s %s\n", $$1, $$2 }'

demo: $(VENV)/.base ## the whole road on this machine: optimize, publish, roll out, roll back
	@python examples/digits/demo.py

demo-stop: $(VENV)/.base ## end what a demo left running
	@python examples/digits/demo.py --stop

check: $(VENV)/.dev ## the gate before a commit, under two minutes
	@echo "== format"; ruff format --check . || { echo "hint: make format" >&2; exit 1; }
	@echo "== lint"; ruff check --quiet .
	@echo "== size"; python tools/size.py --quiet
	@echo "== floors"; lint-imports --no-logo --no-cache >$(VENV)/lint.log 2>&1 || { cat $(VENV)/lint.log >&2; exit 1; }
	@echo "== types"; mypy --no-error-summary
	@echo "== quick tests"; python -m pytest -q -m "not slow" -n $(JOBS)

test: $(VENV)/.dev ## every test this machine can run, campaigns sampled, up to 20 minutes
	@if [ -x $(TF_PYTHON) ]; then export EDGEWRIGHT_TF_PYTHON="$${EDGEWRIGHT_TF_PYTHON:-$(CURDIR)/$(TF_PYTHON)}"; fi; \
	python -m pytest -q -n $(JOBS)

frameworks: $(VENV)/.frameworks ## what tests of import, data and workers need: torch, ray, TensorFlow aside, 3 GB

bench: $(VENV)/.dev ## every benchmark: a table, and benchmarks/results/*.json
	@python benchmarks/run.py $(ARGS)

bench-optimize: $(VENV)/.dev ## size, quality and speed beside other tools; QUICK=1 for a sample
	@python benchmarks/run.py optimize $(if $(QUICK),--quick)

soak: $(VENV)/.dev ## the fault campaigns in full, an hour or more
	@python -m pytest -q tests/crash -m slow --scale full

docs: $(VENV)/.dev ## write the generated pages of docs/ anew
	@python tools/docs.py

wheels: $(VENV)/.dev ## both wheels into dist/
	@rm -rf dist
	@python -m build --wheel --no-isolation --outdir dist . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log >&2; exit 1; }
	@python -m build --wheel --no-isolation --outdir dist packaging/device >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log >&2; exit 1; }
	@ls -l dist

format: $(VENV)/.dev ## lay the code out and mend what ruff can mend
	@ruff format --quiet .
	@ruff check --quiet --fix .

clean: ## remove what the commands above made, the environment too
	@rm -rf $(VENV) dist out .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests tools examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.made:
	@tools/venv.sh $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.made pyproject.toml
	@echo "installing edgewright into $(VENV)"
	@$(PIP) --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing edgewright and what developing it needs into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@$(COMPILE)
	@touch $(VENV)/.base $@

# TensorFlow pins libraries that the rest needs in other versions: it lives by itself.
$(VENV)/.frameworks: $(VENV)/.dev
	@echo "installing torch, transformers and ray into $(VENV), TensorFlow into $(VENV)/tensorflow"
	@$(PIP) --editable '.[torch,transformers,pictures,parquet,ray]'
	@python -m venv $(VENV)/tensorflow
	@$(TF_PYTHON) -m pip install --quiet --quiet --disable-pip-version-check tensorflow-cpu tf2onnx
	@touch $@
