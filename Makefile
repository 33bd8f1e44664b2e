# `make` lists the verbs. PYTHON=… selects the interpreter (3.11 or newer); everything else is set up on demand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
CLUSTER ?= testbed
DEMO ?=
HOMELAB ?= ../shared/homelab
JOBS ?= $(if $(filter kind,$(CLUSTER)),1,2)
IMAGE ?= clusterstack:dev
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest
override HOMELAB := $(abspath $(HOMELAB))
export HOMELAB CLUSTER

.PHONY: help
help: ## list the verbs
	@printf 'ClusterStack: brings a Kubernetes cluster from empty to running out of Git, layer by layer.\n\n'
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nNeeds Python 3.11 or newer, git and make; the first run builds a control plane from source (10-15 min).\n'

# -- setting up

.PHONY: setup
setup: venv tools ## everything that the other verbs need: .venv and the pinned tools

.PHONY: venv
venv: $(VENV)/.ready

.PHONY: tools
tools: venv
	@$(RUN) -m testbed.build --quiet
	@ln -sfn "$$($(RUN) -c 'from testbed import tools; print(tools.binary(tools.RENDERER))')" $(VENV)/bin/clusterstack-renderer

$(VENV)/.ready: requirements-dev.txt testbed/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		echo "'$(PYTHON)' is no Python 3.11 or newer: $$($(PYTHON) --version 2>&1 || true)." \
			"Name one with PYTHON=, such as: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing the locked requirements into $(VENV)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: -r requirements-dev.txt
	@$(RUN) -m testbed.install
	@touch $@

.PHONY: lock
lock: venv ## resolve the requirements anew: requirements.txt and requirements-dev.txt
	@for group in "" dev; do \
		$(VENV)/bin/uv pip compile pyproject.toml $${group:+--group $$group} --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-header --quiet $(ARGS) \
			--output-file requirements$${group:+-$$group}.txt; \
	done

# -- checks that need no cluster

.PHONY: fmt
fmt: venv ## format the code
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

.PHONY: lint
lint: venv ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

.PHONY: type
type: venv ## mypy, strict
	$(VENV)/bin/mypy

.PHONY: layers
layers: venv ## import-linter: imports point one way
	$(VENV)/bin/lint-imports

.PHONY: crds
crds: venv ## write crds/ from the models
	$(RUN) -m clusterstack.api.schema --write

.PHONY: crds-check
crds-check: venv ## fail when crds/ is not what the models say
	$(RUN) -m clusterstack.api.schema --check

# -- tests

.PHONY: unit
unit: setup ## tests without a cluster
	$(PYTEST) -n $(JOBS) tests/unit tests/engine $(ARGS)

.PHONY: cluster
cluster: setup ## tests against a real kube-apiserver
	$(PYTEST) -n $(JOBS) tests/cluster $(ARGS)

.PHONY: e2e
e2e: setup ## the whole operator against a control plane
	$(PYTEST) -n $(JOBS) --dist loadfile -m "not homelab" tests/e2e $(ARGS)

.PHONY: homelab
homelab: setup ## the homelab from empty (needs HOMELAB=, default ../shared/homelab)
	$(PYTEST) -m homelab $(ARGS)

.PHONY: test
test: setup ## everything: checks, unit, cluster, e2e, homelab
	@$(MAKE) -j $(JOBS) --output-sync=target lint type layers crds-check
	@echo "== unit, engine and cluster tests"
	$(PYTEST) -n $(JOBS) -q -m "not homelab" tests/unit tests/engine tests/cluster
	@echo "== end to end"
	$(PYTEST) -n $(JOBS) --dist loadfile -q -m "not homelab" tests/e2e
	@if [ -d "$(HOMELAB)" ]; then \
		echo "== homelab, alone: its API server takes 2 GiB"; \
		$(PYTEST) -q -m homelab tests; \
	else \
		echo "== homelab: skipped, there is no $(HOMELAB) (name it with HOMELAB=)"; \
	fi

# -- running it

.PHONY: up
up: setup ## a control plane in the background; prints how to reach it
	@$(RUN) -m testbed up $(ARGS)

.PHONY: down
down: venv ## end it
	@$(RUN) -m testbed down $(ARGS)

.PHONY: demo
demo: setup ## bring up examples/demo and watch (DEMO=once: to the end and away; CLUSTER=kind: with Docker)
	@$(RUN) -m testbed.demo $(if $(filter once,$(DEMO)),once,up) --cluster $(CLUSTER) $(ARGS)

.PHONY: demo-down
demo-down: venv ## end the demo; leaves nothing
	@$(RUN) -m testbed.demo down

.PHONY: bench-homelab
bench-homelab: setup ## the homelab from empty to all Ready, as one JSON line (ARGS=--help)
	@$(RUN) -m bench.homelab $(ARGS)

.PHONY: bench-health
bench-health: setup ## what judging health costs (ARGS=--help)
	@$(RUN) -m bench.health $(ARGS)

.PHONY: health-samples
health-samples: venv ## check every bundled health rule against its own samples
	@$(RUN) -m clusterstack.core.health.samples $(ARGS)

.PHONY: image
image: ## the operator's container image, with Docker (IMAGE=name:tag)
	docker build --file deploy/Dockerfile --tag $(IMAGE) .

.PHONY: clean
clean: venv ## end what runs in the background and remove what was made in this folder; the tools' cache stays
	@$(RUN) -m testbed.demo down; $(RUN) -m testbed down
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
