# Two commands do everything, on a machine with Python 3.11 or newer:
#   make demo   install, train on binary MNIST for a few minutes, show the result
#   make test   install, then lint, types and tests
# And for those who change the kernels:
#   make sanitize   their tests on a build that stops at the first wrong access or undefined operation

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/demo
BIN := $(VENV)/bin
# The variable, unlike the option, also holds for what the package is built with.
PIP = PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types sanitize clean

demo: $(VENV)/.installed
	$(BIN)/pixelrnn train demo --out $(OUT) --overwrite
	$(BIN)/pixelrnn sample $(OUT) -n 64 -o $(OUT)/samples.png
	$(BIN)/pixelrnn complete $(OUT) -n 8 --keep top-half -o $(OUT)/completions.png
	$(BIN)/pixelrnn figure contexts $(OUT) -o $(OUT)/context.png
	$(BIN)/pixelrnn sample mnist-diagonal-bilstm -n 64 -o $(OUT)/samples-of-shipped-model.png
	@echo "Look into $(OUT): test.json, curve.png, samples.png, completions.png, context.png,"
	@echo "and samples-of-shipped-model.png, of a network that comes with the package (pixelrnn models)"

# A test file is run by one process, as its tests share what takes long to make.
test: lint types
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

# A copy of the environment's package is built with the sanitizers, and put back to the usual build after the tests.
sanitize: $(VENV)/.installed-test
	$(PIP) -e . -C cmake.define.PIXELRNN_SANITIZE=ON -C build-dir=build/sanitize
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
		ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest tests/kernels tests/scanning tests/codec/test_exact_scan.py \
		tests/model/test_multiscale.py \
		-k "not compiled and not registered and not sum_to_one and not frequencies and not tend"; \
		status=$$?; $(PIP) -e .; exit $$status

SOURCES = pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/native/* src/native/*/* src/native/*/*/*)

$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# Not after the one above: each installation builds the extension.
$(VENV)/.installed-test: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[datasets,tensorboard,test]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
