# make demo   mine hard pairs, continue the embedded CLIP model with them, evaluate it: all on the embedded data
# make test   the default test suite             make lint   ruff and pyright             make clean   caches and .venv
# Another interpreter for a new .venv: make demo PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test lint clean
.DEFAULT_GOAL := demo

# pip is the last thing that venv writes, so a half-made folder is made again
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "HELIP needs Python 3.11 or newer, '$(PYTHON)' is older or missing: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than pyproject.toml when its install is up to date; the dev install contains the plain one.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing HELIP: torch in its CUDA build is several GB, which takes some minutes once."
	$(PY) -m pip install --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing HELIP and its development tools: several GB, which takes some minutes once."
	$(PY) -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	@start=$$(date +%s) && \
	$(PY) mine.py && $(PY) train.py && \
	run=$$(ls -td "$${HELIP_RUNS:-runs}"/train/*/ | head -n 1) && \
	$(PY) evaluate.py checkpoint="$${run%/}" && \
	echo "demo: mine + train + evaluate took $$(($$(date +%s) - start)) s (without the install)"

test: $(VENV)/.installed-dev
	$(PY) -m pytest

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

# What you made (data, artifacts, runs) stays.
clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
