# `make serve` runs the service, `make test` the tests. Each creates the environment that it needs in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# `make test SLOW=1` runs the slow tests too.
MARKS := $(if $(SLOW),,-m "not slow")

.PHONY: serve test lint settings links client clean

serve: $(VENV)/serve.stamp
	@$(BIN)/wordlight serve

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(MARKS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Generates docs/configuration.md from the settings classes.
settings: $(VENV)/serve.stamp
	@$(BIN)/wordlight config --markdown > docs/configuration.md

# Sets the line numbers of links from the documents into the code right.
links:
	@$(BIN)/python tests/support/documents.py

# Generates the synchronous client from the asynchronous one.
client:
	@$(BIN)/python tests/support/synchronous_client.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/serve.stamp: pyproject.toml constraints.txt
	@echo "creating the environment in $(VENV), once: some minutes, some gigabytes (PyTorch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[app,cli,worker,embedded,train]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/serve.stamp
	@echo "installing what the tests need in $(VENV)"
	@$(PIP) --editable '.[app,cli,worker,embedded,train]' --group dev
	@touch $@
