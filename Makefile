# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` do all the set-up on a machine that has Python >= 3.11 with venv, make, git and apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BPF := $(wildcard src/ciliumpy/bpf/c/*.[ch] src/ciliumpy/bpf/c/*/*.[ch]) src/ciliumpy/bpf/build.py
PYTEST := $(BIN)/python -m pytest -q
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check bench soak wheel bpf proto lock clean packages-demo packages-test
help:
	@echo "make demo    a two-node lab on this machine, with traffic, policy and flows (root)"
	@echo "make test    all tests; without root those that need none"
	@echo "make check   format, lint, types, layers, dependencies"
	@echo "make bench   measurements beside their marks; BENCH=startup|agent|cost|path|overlay|ring|churn|policy for one"
	@echo "make soak    the long tests"
	@echo "make wheel   dist/*.whl, with the BPF objects in it"
	@echo "make clean   removes what was built"

demo: $(VENV)/.runtime bpf
	@$(BIN)/ciliumpy lab demo

test: $(VENV)/.dev
	@$(BIN)/python -m ciliumpy.bpf.build --if-possible
	@$(PYTEST) tests

check: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry src

bench: $(VENV)/.dev bpf
	@$(BIN)/python -m tests.bench $(BENCH)

soak: $(VENV)/.dev bpf
	@CILIUMPY_SOAK=1 $(PYTEST) --timeout=900 tests

wheel: $(VENV)/.runtime bpf
	@$(BIN)/python -m hatchling build -t wheel

bpf: $(VENV)/.bpf
$(VENV)/.bpf: $(VENV)/.runtime $(BPF)
	@$(BIN)/python -m ciliumpy.bpf.build && touch $@

proto: $(VENV)/.dev
	@$(BIN)/python -m tests.generate_proto

lock: $(VENV)/.dev
	@$(BIN)/pip install -q uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --group dev pyproject.toml -o requirements-dev.lock

# Looked for each time: what could not be installed by who had no root may be by who has.
packages-demo packages-test:
	@scripts/system-packages $(@:packages-%=%)

# The environment: what is locked, then this checkout itself, in place.
$(VENV)/.runtime: requirements.lock pyproject.toml | packages-demo
	@test -x $(BIN)/python || { echo "environment: $(PYTHON) -m venv $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "environment: installing locked dependencies" >&2
	@$(BIN)/pip install -q --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock | packages-test
	@echo "environment: installing locked tools for tests and checks" >&2
	@$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) build dist src/ciliumpy/bpf/objects .pytest_cache .mypy_cache .ruff_cache .hypothesis
