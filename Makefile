# `make` lists the targets.
SHELL := /bin/sh
VENV ?= .venv
PY := $(VENV)/bin/python
export VENV
export PYSPARK_PYTHON := $(abspath $(PY))
TIER ?= demo
OUT ?= out/$(TIER)

.PHONY: help setup demo mosaic-demo study test test-s3 test-shipped cluster-demo check bench package plan environment templates docs lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup:  ## make .venv from the lock file; find or install Java
	@infra/setup.sh requirements.lock

demo: setup  ## embedded survey -> stamps -> report (SURVEY=DIR: on your survey; TIER=, OUT=)
	@$(PY) -m infra.demo --tier "$(TIER)" --out "$(OUT)" $(if $(SURVEY),--survey "$(SURVEY)")

mosaic-demo: setup  ## simulated frames -> mosaics by four recipes -> gallery (DATA=DIR: real frames too; OUT=)
	@$(PY) -m infra.mosaic_demo --out "$(if $(filter out/$(TIER),$(OUT)),out/mosaic,$(OUT))" $(if $(DATA),--data "$(DATA)")

TORCH ?= torch==2.13.0
study: setup  ## is the set good? trains a small network on it (REAL=DIR: scores real stamps, too; TORCH=, OUT=)
	@$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(PY) -m study --out "$(if $(filter out/$(TIER),$(OUT)),out/study,$(OUT))" $(if $(REAL),--real "$(REAL)") $(ARGS)

test: .venv-dev  ## all tests, lint and types
	@$(MAKE) --no-print-directory check
	@$(PY) -m pytest $(ARGS)

test-s3: .venv-dev  ## the tests on a real S3 server and a real cluster only
	@$(PY) -m pytest tests/cloud $(ARGS)

test-shipped: .venv-dev  ## the steps as EMR gets them, with the shipped archive, and the wheels of both processors (minutes, GBs)
	@ARCMILL_SHIPPED=1 $(PY) -m pytest tests/cloud/test_shipped.py tests/infra/test_environment.py $(ARGS)

cluster-demo: setup  ## the demo by spark-submit, on a cluster of two workers of this machine (TIER=)
	@$(PY) -m infra.cluster_demo --tier "$(TIER)" --out "out/cluster-$(TIER)"

check: .venv-dev  ## lint, format and types only
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

templates: .venv-dev  ## infra/templates by cfn-lint and checkov (installed beside: it wants another boto3)
	@$(VENV)/bin/cfn-lint infra/templates/*.yaml
	@test -x .venv-checkov/bin/checkov || { $(PY) -m venv .venv-checkov && .venv-checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30; }
	@.venv-checkov/bin/checkov --skip-download --compact --quiet -d infra/templates

.PHONY: .venv-dev
.venv-dev:
	@infra/setup.sh requirements-dev.lock

BENCHES := $(filter-out __init__ peers,$(basename $(notdir $(wildcard bench/*.py))))
bench:  ## NAME=x runs bench/x.py; the last line is JSON (PEERS=1: all peers)
	@test -n "$(filter $(NAME),$(BENCHES))" || { echo "bench: give NAME=, one of: $(BENCHES)" >&2; exit 2; }
	@$(MAKE) --no-print-directory .venv-dev
	@$(if $(PEERS),$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r bench/requirements.txt)
	@$(PY) -m bench.$(NAME) $(ARGS)

package: setup  ## dist/arcmill.zip: the code, as --py-files takes it
	@$(PY) -m infra.package

plan: setup  ## what a tier takes on its machines: rows, bytes, hours, dollars (TIER=train ARGS=...)
	@$(PY) -m infra plan --tier "$(TIER)" $(ARGS)

environment: setup  ## dist/environment-*.tar.gz: the packages as a cluster takes them (CLUSTER=debug)
	@$(PY) -m infra.environment $(or $(CLUSTER),debug)

docs: setup  ## write docs/tables.md from the schemas
	@$(PY) -m infra.tables

lock:  ## resolve the lock files anew from pyproject.toml
	@infra/lock.sh

clean:  ## remove outputs and the environment
	@rm -rf out dist $(VENV)
