# Each verb sets up what it needs: .venv comes from requirements.lock, its hashes verified, once.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
NOTEBOOKS := $(wildcard book/*.ipynb)

# Builds that are byte for byte the same: no clock, no hash order, no outside.
export SOURCE_DATE_EPOCH := 1767225600
export PYTHONHASHSEED := 0
# The chapters and tests fill the cores by themselves; threads of small products would fight over them.
export OPENBLAS_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help book test lab serve export execute mutants abuse bench results lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' Makefile | column -t -s '|'

book: $(READY) ## execute every chapter and render the book into _build/html
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@echo "The book is at _build/html/index.html"

test: $(READY) ## run everything that must hold
	PYTHONHASHSEED=random $(BIN)/pytest -n 2 --dist loadfile

lab: $(READY) ## open the chapters in JupyterLab, ready to execute
	$(BIN)/jupyter lab book

serve: book ## show the built book at http://127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

export: $(READY) ## write rnn/ and the equation index from the chapters
	$(BIN)/python tools/export.py
	$(BIN)/python tools/equations.py

execute: $(READY) ## run the chapters and store their outputs in place
	$(BIN)/python tools/execute.py $(NOTEBOOKS)

mutants: $(READY) ## change the modules in every place, one at a time, and see the tests notice
	$(BIN)/python tools/mutants.py

abuse: $(READY) ## kill, flip, cut and fuzz: no model file is lost or read wrongly
	$(BIN)/python tools/abuse.py

bench: $(READY) ## measure every claim about speed, with all processors
	env -u OPENBLAS_NUM_THREADS $(BIN)/python benchmarks/bench.py

results: $(READY) ## train and record every network of the last chapter: three hours
	env -u OPENBLAS_NUM_THREADS $(BIN)/python benchmarks/results.py

lock: ## pin all dependencies anew, with hashes (needs uv)
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate \
	  --custom-compile-command "make lock" --group book --group test pyproject.toml -o requirements.lock

clean: ## remove .venv and everything built
	rm -rf .venv _build .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml tools/setup.py
	@$(PYTHON) tools/setup.py
