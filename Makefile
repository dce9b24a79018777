# Two commands do everything, on a machine with Python 3.11 or newer:
#   make demo   install, train on binary MNIST for a few minutes, show the result
#   make test   install, then lint, types and tests

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/demo
BIN := $(VENV)/bin

.PHONY: demo test lint types clean

demo: $(VENV)/.installed
	$(BIN)/pixelrnn train demo --out $(OUT) --overwrite
	$(BIN)/pixelrnn sample $(OUT) -n 64 -o $(OUT)/samples.png
	$(BIN)/pixelrnn complete $(OUT) -n 8 --keep top-half -o $(OUT)/completions.png
	$(BIN)/pixelrnn figure contexts $(OUT) -o $(OUT)/context.png
	@echo "Look into $(OUT): test.json, curve.png, samples.png, completions.png, context.png"

test: lint types
	$(BIN)/pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[datasets,tensorboard,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
