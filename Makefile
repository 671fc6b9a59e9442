# Every command a newcomer needs. `make` alone lists them.
#
# Set-up is remembered in stamp files inside .venv and node_modules: a second call does nothing,
# a changed lock installs again. What set-up brings is pinned with hashes in requirements/ and
# package-lock.json.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
VENDOR := broker/web/console/static/vendor
PACKAGES := broker agents loadtests tests tools examples
UV := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate $(if $(UPGRADE),--upgrade)

.PHONY: help setup run test test-real test-openstack check static bench mutants docs lock vendor browser qemu-img libvirt guest dev clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.run $(VENDOR)/.stamp ## install what `make run` needs, into .venv

run: setup $(if $(filter 1,$(REAL)),libvirt guest) ## start a school's broker, endpoints and a campaign; then serve (ONCE=1: end after the report; REAL=1: with real desktops, installs QEMU)
	@real=$$(tools/real.sh $(BIN)); \
	$(BIN)/trivium demo $(if $(filter 1,$(ONCE)),--once) $${real:+--real "$$real"}

test: dev browser qemu-img $(if $(filter 0,$(REAL)),,libvirt guest $(VENV)/.openstack-sdk) ## do all the set-up, then run every check and every test (REAL=0: without those of real machines)
	@failed=0; \
	$(MAKE) --no-print-directory static || failed=1; \
	$(BIN)/pytest $(if $(filter 0,$(REAL)),,--real) -n 2 --dist loadgroup || failed=1; \
	exit $$failed

test-real: dev browser libvirt guest ## the tests of real machines alone, and the engine contract over them
	@$(BIN)/pytest --real -n 2 --dist loadgroup tests/real tests/contract/test_engine*.py \
		tests/contract/test_libvirt_*.py

test-openstack: dev $(VENV)/.openstack ## the engine contract over a real OpenStack with pretended hypervisors
	@$(BIN)/pytest --engine openstack --timeout 900 tests/contract/test_engine*.py \
		tests/contract/test_openstack_*.py

check: dev ## lint, types, import directions and unit tests, in under a minute
	@$(MAKE) --no-print-directory static
	@$(BIN)/pytest -q -n 2 tests/unit

static: dev ## lint, format, types, import directions, generated pages
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	$(BIN)/python tools/reference.py --check || failed=1; \
	exit $$failed

bench: dev libvirt guest $(VENV)/.bench ## measure the broker against its floors, as ratios in one run
	@$(BIN)/python -m tests.bench

mutants: dev ## change the domain's code thousands of times and see that its tests notice (a quarter of an hour)
	@$(BIN)/python -m tools.mutants

docs: dev ## write docs/errors.md, lifecycles.md and settings.md anew from the code
	@$(BIN)/python tools/reference.py

lock: dev ## pin the dependencies anew after a change in pyproject.toml or package.json (UPGRADE=1: newest)
	@$(UV) pyproject.toml --extra broker --extra load --extra dev --group build \
		-o requirements/dev.lock
	@$(UV) pyproject.toml -c requirements/dev.lock -o requirements/agent.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra broker -o requirements/broker.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra load -o requirements/load.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra broker --extra load --group build \
		-o requirements/run.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra libvirt -o requirements/libvirt.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra openstack -o requirements/openstack.lock
	@$(UV) --group openstack-lab -o requirements/openstack-lab.lock
	@$(UV) pyproject.toml -c requirements/dev.lock --extra bench -o requirements/bench.lock
	@$(UV) --group node -o requirements/node.lock
	@tools/npm.sh install --package-lock-only $(if $(UPGRADE),--prefer-online)

vendor: $(VENDOR)/.stamp ## bring the console's front-end libraries

browser: ## have Chromium and a Chinese font, for the console's tests
	@tools/browser.sh

qemu-img: ## have qemu-img, for the tests of uploaded images
	@tools/qemu_img.sh

libvirt: $(VENV)/.libvirt ## have libvirt, QEMU and a guest's kernel, for the tests of real machines

guest: dev ## build the test guest, a small Debian machine with a screen, and tell where it is
	@tools/guest/host.sh
	@$(BIN)/python -m tools.guest.build

dev: setup $(VENV)/.dev

clean: ## remove what set-up and the tools made; data in var/ stays
	@rm -rf $(VENV) $(VENDOR) node_modules dist .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis .coverage
	@find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: tools/venv.sh
	@tools/venv.sh $(VENV)
	@touch $@

$(VENV)/.run: requirements/run.lock pyproject.toml $(VENV)/.made
	@echo "Installing the locked dependencies …"
	@$(PIP) install -qq --require-hashes -r requirements/run.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

# One after the other, also under `make -j`: two pips at once would spoil the environment.
$(VENV)/.dev: requirements/dev.lock | $(VENV)/.run $(VENDOR)/.stamp
	@echo "Installing the locked development tools …"
	@$(PIP) install -qq --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.bench: requirements/bench.lock | $(VENV)/.dev
	@echo "Installing the locked websockify …"
	@$(PIP) install -qq --require-hashes -r requirements/bench.lock
	@touch $@

# Built against the system's libvirt, so that comes first; hence a lock of its own.
$(VENV)/.libvirt: requirements/libvirt.lock tools/libvirt.sh | $(VENV)/.dev
	@tools/libvirt.sh $(VENV)/guest-kernel $(VENV)/guest-packages
	@echo "Building the locked libvirt binding …"
	@$(PIP) install -qq --require-hashes -r requirements/libvirt.lock
	@touch $@

$(VENV)/.openstack-sdk: requirements/openstack.lock | $(VENV)/.dev
	@echo "Installing the locked openstacksdk …"
	@$(PIP) install -qq --require-hashes -r requirements/openstack.lock
	@touch $@

# A cloud's services bring other versions of much, so they have an environment of their own.
$(VENV)/.openstack: requirements/openstack-lab.lock tools/openstack/install.sh \
		| $(VENV)/.openstack-sdk
	@echo "Installing the locked OpenStack …"
	@tools/openstack/install.sh
	@touch $@

# Where npm is missing this installs it into the same .venv, so it waits for .run.
$(VENDOR)/.stamp: package.json package-lock.json .npmrc tools/npm.sh | $(VENV)/.run
	@echo "Bringing the console's libraries …"
	@tools/npm.sh ci --loglevel=error
	@mkdir -p $(VENDOR)
	@cp node_modules/htmx.org/dist/htmx.min.js node_modules/htmx-ext-sse/dist/sse.min.js \
		node_modules/uplot/dist/uPlot.iife.min.js node_modules/uplot/dist/uPlot.min.css $(VENDOR)/
	@rm -rf $(VENDOR)/novnc && mkdir $(VENDOR)/novnc
	@cp -r $(addprefix node_modules/@novnc/novnc/,core vendor LICENSE.txt) $(VENDOR)/novnc/
	@touch $@
