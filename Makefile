# The front door. Every target does its own set-up; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
LAB ?= lab

.PHONY: help demo test check docs man bench setup packages deb lab-down clean

help:
	@echo "make demo      the whole story on real VMs (needs root); leaves the lab up"
	@echo "make test      every test, the real ones included (needs root)"
	@echo "make check     style, types, import rules, fast tests: needs no root once set up"
	@echo "make docs      the documentation as a site, in build/site; warnings are errors"
	@echo "make man       the manual pages, in build/man"
	@echo "make bench     timings, as ratios in one run; writes bench-results.json"
	@echo "make deb       Debian packages for Debian 12, in dist/"
	@echo "make lab-down  end the lab that 'make demo' leaves up"

demo: setup
	$(BIN)/pvc lab demo --name $(LAB)

# SEEDS random clusters under random faults are tried on simulated time; then the real tests have the machine to themselves:
# emulated guests that are moved do not bear processors which are overloaded (docs/testing.md).
SEEDS ?= 2000

test: check
	PVC_SEEDS=$(SEEDS) $(BIN)/pytest -q -n auto tests/scenarios/test_random_schedules.py
	$(BIN)/pytest -m "zookeeper or libvirt or lab or packages or ceph"

check: setup docs man
	$(BIN)/ruff check pvc tests bench docs examples packaging
	$(BIN)/ruff format --check pvc tests bench docs examples packaging
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/pytest -n auto -m "not zookeeper and not libvirt and not lab and not packages and not ceph"

docs: setup
	$(BIN)/mkdocs build --strict  # with --quiet it would not count warnings

man: setup
	$(BIN)/python docs/generate.py --man build/man

bench: setup
	$(BIN)/python -m bench

deb: setup
	sh packaging/build-deb

lab-down:
	$(BIN)/pvc lab down --name $(LAB)

setup: packages .venv/.installed

packages:
	@sh packaging/install-debian-packages

# setuptools reads setup.cfg; the stamp is older than it when dependencies or entry points have changed.
.venv/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
