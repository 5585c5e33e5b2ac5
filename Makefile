# The two commands a newcomer needs: `make demo` and `make test`. Both set up .venv themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

COMPILED := $(shell grep -rl --include=*.py "^ *import cython$$" src/scalargrad) $(shell find src -name "*.pxd")
DATA ?= data/mnist

.PHONY: demo test test-pure lint bench example_toy_regression example_mnist clean

demo: $(VENV)/.installed
	$(BIN)/scalargrad train digits --out runs/digits

# A worker on each core.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto

test-pure: $(VENV)/.installed
	SCALARGRAD_PURE=1 $(BIN)/python -m pytest -n auto -m pure

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

example_toy_regression: $(VENV)/.installed
	$(BIN)/python examples/toy_regression.py

# DATA=FOLDER says where MNIST's files are.
example_mnist: $(VENV)/.installed
	$(BIN)/python examples/mnist.py --data '$(DATA)'

# Installing again is what recompiles; the stamp is older than a compiled source that changed.
$(VENV)/.installed: pyproject.toml setup.py $(COMPILED) | $(BIN)/python
	@echo "Installing into $(VENV) and compiling: some minutes, the first time only."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:
	rm -rf $(VENV) build dist src/*.egg-info runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.so' -delete -o -name '*.pyd' -delete
	rm -f $(patsubst %.py,%.c,$(filter %.py,$(COMPILED)))
