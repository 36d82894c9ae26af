# The install takes torch first, then everything else under a constraint that keeps it: nothing may replace a torch that is there.
# Bytecode is made at first use (--no-compile): compiling all of torch beforehand takes nearly half of the install. It has
# to be kept then: without it every process compiles torch and transformers anew, for ten seconds and more.
PYTHON ?= python3
TORCH ?= torch==2.13.0
SEED ?= 0
WORKERS ?= 2
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install quickstart test test-all lint

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; assert (3, 11) <= v < (3, 13), f"Python 3.11 or 3.12 is needed, {sys.executable} is {v.major}.{v.minor}; set PYTHON="'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet --no-compile '$(TORCH)'
	$(BIN)/python -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' > .venv/constraints.txt
	$(BIN)/pip install --quiet --no-compile --constraint .venv/constraints.txt --editable '.[all,dev]'
	touch $@

quickstart: install
	$(BIN)/gmai quickstart --seed $(SEED)

test: install
	$(BIN)/pytest -n $(WORKERS)

test-all: install
	$(BIN)/pytest -n $(WORKERS) -m ''

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
