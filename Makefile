# Everything a contributor runs. Needs Python 3.11 or newer, make and a C compiler.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-monitoring test test-fast test-kubernetes kubernetes packages lint generate verify bench bench-kv bench-cluster fuzz soak soak-drains soak-alerts soft-roce clean

export UV_PYTHON_DOWNLOADS := never
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
# What tests and users start often, and what that imports.
STARTED := splitwise_cli.main, splitwise_cli.runner, splitwise_operator.main, splitwise_router.service, splitwise_sidecar.process, splitwise_worker.process, pytest, openai
# Files side by side: whole clusters wait more than they compute.
SIDE_BY_SIDE := -n 2 --dist loadscope --no-loadscope-reorder

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 17

setup: $(READY) ## Install everything into .venv

$(READY): pyproject.toml requirements.lock $(wildcard sidecar/splitwise_sidecar/moves/*.[ch]) | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit("Splitwise needs Python 3.11 to 3.13; set PYTHON=... to one" if not (3, 11) <= sys.version_info[:2] < (3, 14) else 0)'
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" .venv
	@echo "installing the locked dependencies into .venv (about 5 GB: torch brings its CUDA libraries)"
	$(UV) pip sync --quiet --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@# Where Python is told to keep no bytecode, each start of a worker would cost 3 s more, without this.
	@$(BIN)/python -m compileall -q -j 0 $$($(BIN)/python -c 'import numba, numpy; print(*numba.__path__, *numpy.__path__)')
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import $(STARTED)'
	@touch $@

.uv/bin/uv:
	@echo "bootstrapping uv into .uv"
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

demo: setup ## Start a cluster, ask it questions, show where each answer was computed
	@$(BIN)/python examples/demo.py

demo-monitoring: setup ## Watch a cluster under load with a real Prometheus; show what dashboards show
	@$(BIN)/python -m examples.demo_monitoring

test: kubernetes packages ## Run every test; without Go, those on Kubernetes are skipped and say so
	@$(BIN)/splitwise model tiny .cache/models/tiny
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-fast: setup ## Run the tests that start no whole cluster and no API server
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not e2e and not kubernetes"

test-kubernetes: kubernetes ## Run the tests on Kubernetes alone
	$(BIN)/python -m pytest -m kubernetes

kubernetes: setup ## Build the control plane and the helm that they use, once, where Go is
	@$(BIN)/python -m tests.support.kube_programs

packages: setup ## Get the browser and the Prometheus that tests use, once (Debian; the browser as root)
	@$(BIN)/python -m tests.support.packages

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

generate: setup ## Write everything that is generated from the code
	$(BIN)/python -m splitwise_core.rpc.generate
	$(BIN)/python docs/generate.py
	$(BIN)/python crds/generate.py
	$(BIN)/python -m monitoring.generate
	$(BIN)/python -m helm.generate

verify: generate lint ## Fail when something generated is not what the code says
	git diff --exit-code -- docs crds helm manifests core/splitwise_core/rpc

bench-kv: setup ## Measure how fast KV moves between sidecars, and how much of it is hidden
	$(BIN)/python -m bench.kv

bench-cluster: setup ## Measure what disaggregation gains or costs on this machine
	$(BIN)/python -m bench.cluster

bench: kubernetes bench-kv ## Run the CPU benchmarks: KV, engine, router, load client, idle cluster, operator (needs Go)
	$(BIN)/python -m bench.engine
	$(BIN)/python -m bench.engine.beside
	$(BIN)/python -m bench.router
	$(BIN)/python -m bench.router.placement
	$(BIN)/python -m bench.router.link_turns
	@$(BIN)/splitwise model tiny .cache/models/tiny
	$(BIN)/python -m bench.router.role_changes
	$(BIN)/python -m bench.client
	$(BIN)/python -m bench.idle
	$(BIN)/python -m bench.operator

fuzz: setup ## Send a million mutated messages to every door of a sidecar
	$(BIN)/python -m tests.fuzz

soak: setup ## Move KV for ten minutes while sidecars and workers die and hang
	$(BIN)/python -m tests.soak

soak-drains: setup ## Ask for a thousand streams while workers are drained fifty times
	@$(BIN)/splitwise model tiny .cache/models/tiny
	$(BIN)/python -m tests.soak.drains

soak-alerts: kubernetes packages ## Make each alert fire from its cause, then watch a healthy hour of the rules
	@$(BIN)/splitwise model tiny .cache/models/tiny
	$(BIN)/python -m tests.soak.alerts
	$(BIN)/python -m tests.soak.alerts --healthy

soft-roce: setup ## Move KV by real verbs in an emulated guest; nightly, 3 to 10 minutes (Debian)
	@$(BIN)/python -m tests.rdma.soft_roce

clean: ## Remove what was installed, built, trained and cached here
	rm -rf .venv .uv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
