# make setup | study | docs | test | faults | check | lint | types | lock | clean: see CONTRIBUTING.md.
# PYTHON=... names the interpreter that .venv is made from.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.PHONY: setup study docs test faults check lint types floors lock clean

PYTHON ?=
BIN := .venv/bin
STAMP := .venv/.installed
UNFINISHED := .venv/.installing

setup: $(STAMP)

# uv installs in seconds what takes pip minutes, but reads its own settings only: it is given pip's index, and where
# that does not do (an index that uv cannot read, ...), pip installs.
$(STAMP): requirements.lock pyproject.toml .venv/pyvenv.cfg
	@touch $(UNFINISHED)
	setting() {
	  $(BIN)/pip config get ":env:.$$1" 2>/dev/null || $(BIN)/pip config get "install.$$1" 2>/dev/null ||
	    $(BIN)/pip config get "global.$$1" 2>/dev/null || true
	}
	index="$$(setting index-url)"
	if [ -n "$$index" ] && [ -z "$${UV_DEFAULT_INDEX:-}$${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="$$index"; fi
	clock() { while sleep 10 >&- 2>&-; do echo "  still at it, $$SECONDS s"; done; }
	clock & clock=$$!
	trap 'kill $$clock 2>&- || true' EXIT
	echo "make setup, 2 of 4: installing uv, which installs the rest (seconds)"
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	echo "make setup, 3 of 4: installing the $$(wc -l < requirements.lock) packages of requirements.lock into .venv: 7 GB," \
	  "a minute where uv has them in its cache, else some minutes"
	install="$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --compile-bytecode"
	if ! $$install -r requirements.lock; then
	  echo "uv did not install them: pip tries (minutes)"
	  install="$(BIN)/pip install --quiet --disable-pip-version-check --no-deps"
	  $$install -r requirements.lock
	fi
	echo "make setup, 4 of 4: installing lchp itself (seconds)"
	$$install --no-build-isolation --editable .
	rm -f $(UNFINISHED)
	touch $@
	echo ".venv is ready after $$SECONDS s: the command is $(BIN)/lchp, or lchp after: source $(BIN)/activate"

# An environment whose installation was broken off is made anew.
ifneq ($(wildcard $(UNFINISHED)),)
.PHONY: .venv/pyvenv.cfg
endif
.venv/pyvenv.cfg:
	@usable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
	found= bare=
	for python in $(or $(PYTHON),python3.11 python3.12 python3 python); do
	  if ! "$$python" -c "$$usable" 2>/dev/null; then continue; fi
	  if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found="$$python"; break; fi
	  bare="$$python"
	done
	if [ -z "$$found" ] && [ -n "$$bare" ]; then
	  echo "make setup: $$bare has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2
	  exit 1
	elif [ -z "$$found" ]; then
	  echo "make setup: no Python 3.11 or 3.12$(if $(PYTHON), at $(PYTHON)): install one, or name it: make PYTHON=/path/to/python3.12" >&2
	  exit 1
	fi
	echo "make setup, 1 of 4: making .venv with $$("$$found" --version) (seconds)"
	rm -rf .venv
	mkdir .venv
	touch $(UNFINISHED)
	"$$found" -m venv .venv

study: setup
	@$(BIN)/lchp study run studies/quickstart.yaml

# Pages carry no date, and nothing is fetched.
docs: setup
	@SOURCE_DATE_EPOCH=0 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	echo "docs: site/index.html"

test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Some 350 faults befall small studies, for an hour or two; what has passed is not tried again. ARGS="--only 17",
# ARGS="--no-ray", ARGS="--seed 1": others.
faults: setup
	@$(BIN)/python -m tests.faults $(ARGS)

check: lint types floors test

lint: setup
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

floors: setup
	@$(BIN)/lint-imports

# The newest versions that pyproject.toml allows on Python 3.11; they must serve 3.12 as well. opencv-python wants system
# libraries that its headless build, the same module, does not. The image of deploy/ has the same versions, and no tools.
lock: setup
	@compile() { $(BIN)/uv pip compile --quiet --no-header --no-annotate --extra dev --extra docs pyproject.toml "$$@"; }
	compile --upgrade --python-version 3.11 --output-file .venv/lock-3.11
	compile --python-version 3.12 --constraint .venv/lock-3.11 --output-file .venv/lock-3.12
	diff .venv/lock-3.11 .venv/lock-3.12
	plain() { sed 's/^opencv-python==/opencv-python-headless==/' "$$1" | LC_ALL=C sort; }
	plain .venv/lock-3.11 > requirements.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --extra cluster pyproject.toml --python-version 3.11 \
	  --constraint .venv/lock-3.11 --output-file .venv/lock-cluster
	plain .venv/lock-cluster > deploy/requirements.lock

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache ./*.egg-info
