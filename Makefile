# Two commands do everything: `make book` and `make test`. Either sets up .venv when it must.

VENV   ?= .venv
# The model (or models) whose chapters `make book` runs.
MODELS ?= mini-2m
# The Python to make .venv with; empty means: the first suitable one on the PATH.
PYTHON ?=

BIN := $(VENV)/bin
# Stamps carry a checksum of what was installed and are written last: a .venv made from another lock,
# or one whose making was interrupted, has no such stamp and is made again from nothing.
sum    = $(shell cksum < $(1) | tr -c '0-9\n' '-')
LOCKED := $(VENV)/.locked-$(call sum,requirements.lock)
READY  := $(VENV)/.ready-$(call sum,pyproject.toml)

.PHONY: help book test clean
.DEFAULT_GOAL := help

help:
	@echo "make book    run every chapter on $(MODELS) and build _build/html/index.html"
	@echo "make test    run the tests"
	@echo "make clean   remove what was built and run; .venv, models and sources stay"
	@echo
	@echo "Settings: MODELS=\"mini-2m gpt2\"   PYTHON=/path/to/python3.12   VENV=.venv"

book: $(READY)
	$(BIN)/ovectors run $(foreach model,$(MODELS),--model $(model))
	$(BIN)/ovectors book

# A process for each core, and whole files to each: their fixtures train, load and build. Tensors in
# tests are tiny: threads that wait for one another only cost time.
test: export OMP_NUM_THREADS ?= 1
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile $(ARGS)

clean:
	rm -rf _build book/runs .pytest_cache .ruff_cache .hypothesis

$(READY): $(LOCKED)
	@$(BIN)/python -m pip --disable-pip-version-check --no-input \
	  install --quiet --no-build-isolation --no-deps -e .
	@rm -f $(VENV)/.ready-* && touch $@

$(LOCKED):
	@set -eu; \
	suits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	found=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.12 python3.13 python3.11 python); do \
	  if "$$python" -c "$$suits" >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: no suitable Python$(if $(PYTHON), in PYTHON=$(PYTHON)): 3.11, 3.12 or 3.13 with its venv module is needed" >&2; \
	  echo "make: install one (Debian, Ubuntu: python3 and python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; \
	  exit 2; \
	fi; \
	if [ "$(VENV)" != .venv ] && [ -e "$(VENV)" ] && [ ! -f "$(VENV)/pyvenv.cfg" ]; then \
	  echo "make: $(VENV) is there and is no virtual environment; it is left alone: name another with VENV=" >&2; \
	  exit 2; \
	fi; \
	echo "Making $(VENV) from requirements.lock with $$("$$found" --version)"; \
	"$$found" -m venv --clear "$(VENV)"; \
	pip="$(BIN)/python -m pip --disable-pip-version-check --no-input"; \
	$$pip install --quiet --progress-bar off -r requirements.lock; \
	$$pip check; \
	touch "$@"
