# make demo   converts, validates and runs the three example models; writes demo_out/
# make test   everything: lint, types, tests
# make boards the tests on emulated Raspberry Pis, microcontrollers and in a browser
# Both create .venv and install what they need; python3 (3.11 or newer) with venv is enough.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# where python3 is older than 3.11 but a newer one is installed beside it
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test boards boards-table emulators lint models bench bench-build bench-fit table onnx-tests wheel kernels clean

demo: $(VENV)/.demo
	@$(BIN)/streamrnn demo

test: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n 2

# the tests on emulated machines and in a browser alone, which `make test` runs too where `make emulators` could install them
boards: emulators
	@$(BIN)/python -m pytest tests/boards -n 2

# sizes and differences of exported libraries on all targets: the README's table, some minutes
boards-table: emulators
	@STREAMRNN_MODELS=$(STREAMRNN_MODELS) PYTHONPATH=tests:tests/boards:benchmarks $(BIN)/python tests/boards/table.py README.md

# qemu, compilers and a browser by apt-get, an aarch64 Python in the user's cache, wasmtime and selenium from PyPI
emulators: $(VENV)/.boards
	@$(BIN)/python tests/boards/install.py

lint: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/mypy

# streamrnn beside its peers: docs/benchmarks.md, .json, .png and the README's table, a quarter of an hour;
# `make bench BENCH="cells tails --quick"` runs parts of it and writes bench_out/ alone
STREAMRNN_MODELS ?= ../shared/models
BENCH ?= --out docs --readme README.md
bench: $(VENV)/.bench
	@STREAMRNN_MODELS=$(STREAMRNN_MODELS) $(BIN)/python benchmarks/bench.py $(BENCH)

# docs/models.md: every model of a folder with a manifest beside onnxruntime
table: $(VENV)/.dev
	@$(BIN)/python benchmarks/models_table.py $(STREAMRNN_MODELS) -o docs/models.md

# how long two of them, or the NAMES given, take to convert, to build and to load
NAMES ?= gtcrn_simple ulunas_simple
bench-build: $(VENV)/.dev
	@$(BIN)/python benchmarks/bench_build.py $(STREAMRNN_MODELS) --only $(NAMES)

# how close the estimates of `streamrnn fit` for this machine come to its measured steps: docs/fit.md
bench-fit: $(VENV)/.dev
	@$(BIN)/python benchmarks/bench_fit.py $(STREAMRNN_MODELS) -o docs/fit.md

# dist/*.whl with the kernels' bitcode in it (a minute or two)
wheel: $(VENV)/.dev
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# the list of kernels that a wheel brings along, anew
kernels: $(VENV)/.dev
	@PYTHONPATH=tests:benchmarks $(BIN)/python tests/shipped_kernels.py

# every node test of the installed onnx, through the compiled step
onnx-tests: $(VENV)/.dev
	@$(BIN)/streamrnn doctor --onnx-tests

# trains the example models again (torch, espeak-ng; some minutes each)
models: $(VENV)/.train
	@for model in amp vad sensor; do $(BIN)/python examples/train/$$model.py || exit 1; done

$(VENV)/bin/python:
	@echo "creating the environment $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "streamrnn needs Python 3.11 or newer; run: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	@echo "installing streamrnn (numba, onnxruntime, matplotlib: about 500 MB on disk)"
	@$(BIN)/python -m pip install --quiet -e '.[convert,audio,plot]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	@echo "installing streamrnn with its development tools"
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

$(VENV)/.boards: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet -e '.[boards]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet -e '.[bench]'
	@touch $@

$(VENV)/.train: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet -e '.[train]'
	@touch $@

clean:
	rm -rf $(VENV) demo_out bench_out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
