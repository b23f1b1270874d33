# Every target sets up .venv by itself, once; the stamp notices when the dependencies change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup book quick check test reference bench requirements clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target what; do printf '%-18s%s\n' "$$target" "$$what"; done

setup: $(STAMP) ## install everything into .venv (the other targets do so by themselves)

$(STAMP): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt install python3 python3-venv"; exit 1; }
	@echo "Setting up .venv (PyTorch and the tools of the book, 6 GB: a few minutes, once)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo "No virtual environment could be made: apt install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input -r requirements.txt -e .
	@touch $@

book: $(STAMP) ## the book from the committed records: every chapter in full mode, into _build/html
	@$(BIN)/python -m reproduction book

quick: $(STAMP) ## the book in quick mode: small networks trained live, into _build/quick/_build/html
	@$(BIN)/python -m reproduction book --mode quick

check: $(STAMP) ## format, lint, types, and which module may import which: about a minute
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Two workers of one thread each; a file stays on one worker, so a notebook's cells run in order.
test: check ## `make check`, unit tests, every chapter live in quick mode, the full-mode chapters against tests/references
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		--nbval --nbval-current-env --nbval-sanitize-with=tests/sanitize.cfg tests

reference: $(STAMP) ## refresh tests/references from the chapters in full mode
	@$(BIN)/python -m reproduction.pages.book

$(STAMP)-bench: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input -e '.[bench]'
	@touch $@

bench: $(STAMP)-bench ## measure what is claimed to be fast: one table of ratios with their goals
	@$(BIN)/python bench

requirements: ## write requirements.txt from pyproject.toml
	@$(PYTHON) .ci/requirements.py > requirements.txt

clean: ## remove what was built; .venv, records and trained networks stay
	@rm -rf _build build book/*.ipynb .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
