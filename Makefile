# make exits 2 when a command fails, whatever the command's own code; it prints that code last: "Error 5" is a
# missing privilege or kernel feature, as the message above it says. scripts/setup and bin/l4lab exit 5 themselves.
BIN := .venv/bin
PYTEST := $(BIN)/pytest --durations=20
UNIT := $(PYTEST) tests/unit -n 2 --cov=lb.core --cov-branch --cov-fail-under=100
# Tests wait most of the time, so more of them run than there are cores; see tests/conftest.py.
TOGETHER := -m "not alone" -n 3 --dist loadscope
SHELL_SCRIPTS := scripts/setup scripts/docker-test .ci/run containers/entrypoint examples/*.sh
C_FILES := lb/linux/*.c tests/bench/programs/*.c
PROSE := README.md CONTRIBUTING.md CHANGELOG.md docs lb netns tests examples containers scripts .ci Makefile pyproject.toml
CC_CHECK := gcc -std=gnu11 -Wall -Wextra -Werror -fsyntax-only
LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-options $(ARGS)
DOCTOR := found=$$($(BIN)/l4lab doctor) || { rc=$$?; echo "$$found" | grep -v '^ok ' >&2; exit $$rc; }
export PATH := $(PATH):/usr/sbin:/sbin
# Compiling each module anew in each of a thousand processes costs minutes, whatever the shell is set to.
unexport PYTHONDONTWRITEBYTECODE

define NEXT

Try next:
  $(BIN)/l4lab exec client -- curl -s http://192.0.2.10/  # a page through the box; again: the next server's
  $(BIN)/l4box show servers                               # what the box knows of its servers
  $(BIN)/l4box events --follow                            # in another terminal, for the next command's effect:
  $(BIN)/l4lab server rs1 health-off                      # as a deploy begins; SUSPECT, FAILED within 20 s
  $(BIN)/l4lab scenario run health-file-only --report out # why deploys lose requests: open out/report.html
  $(BIN)/l4lab rehearse -- examples/trap.sh {server}      # a deploy that loses requests, two minutes; then your own
endef
export NEXT

.PHONY: help setup lab lab-down test test-unit corpus docker-test bench bench-quick delay-table check fix lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## install what the lab needs: system packages, and Python packages into .venv (root)
	@scripts/setup lab

lab: setup ## start the box, its servers and clients, and say what to try (root)
	@$(DOCTOR)
	@$(BIN)/l4lab up
	@$(BIN)/l4lab status
	@echo "$$NEXT"

lab-down: setup ## stop the lab and remove all it made (root)
	@$(BIN)/l4lab down

test: ## every test: the core alone, then the box and lab on this kernel (root)
	@scripts/setup test
	@$(DOCTOR)
	$(UNIT)
	$(PYTEST) tests/integration tests/corpus examples $(TOGETHER)
	$(PYTEST) tests/integration tests/corpus examples -m alone

test-unit: ## the core's tests, every branch of it covered
	@scripts/setup dev
	$(UNIT)

corpus: ## rehearse every deploy of tests/corpus, 11 minutes; ARGS=--corpus-table=FILE keeps the table (root)
	@scripts/setup test
	@$(DOCTOR)
	$(BIN)/pytest tests/corpus --whole-corpus -n 3 $(ARGS)

docker-test: ## the same box in containers: on your Docker Engine, else skipped (root)
	@scripts/setup test
	@scripts/docker-test

bench: ## measure the box beside what else one could use, half an hour; ARGS=--fresh starts anew (root)
	@scripts/setup bench
	@$(DOCTOR)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-quick: ## all of the bench, tiny: does it work? No figures to be trusted (root)
	@scripts/setup bench
	@$(DOCTOR)
	@$(BIN)/python -m tests.bench --quick

delay-table: ## what the flows of examples/ lose at 0, 1, 5 and 20 ms; ARGS="--repeat 3" (root)
	@scripts/setup test
	@$(DOCTOR)
	@$(BIN)/python -m tests.delay_table $(ARGS)

check: ## lint, format, types, layering, spelling, shell, C
	@scripts/setup dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/rooms
	$(BIN)/codespell $(PROSE)
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/shellcheck --exclude=SC1090,SC2086 tests/corpus/*/*.sh
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(CC_CHECK) -I"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" lb/linux/*.c

fix: ## mend what `make check` finds and can be mended without a thought
	@scripts/setup dev
	-$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)
	-$(BIN)/codespell --write-changes $(PROSE)

lock: ## bring the locks up to pyproject.toml; ARGS=--upgrade takes the newest of everything
	@scripts/setup dev
	$(LOCK) -o requirements-build.txt requirements-build.in
	$(LOCK) --generate-hashes -o requirements.txt pyproject.toml
	$(LOCK) --generate-hashes -c requirements.txt --extra clients --extra web --extra test --extra check --extra dev \
		-o requirements-dev.txt pyproject.toml

clean: ## remove .venv, caches and build output (lab-down first)
	rm -rf .venv build .coverage .hypothesis .*_cache *.egg-info lb/linux/*.so
	find lb netns tests -name __pycache__ -prune -exec rm -rf {} +
