# make demo   environment, build, the main job on an embedded data set, a report to look at
# make test   environment, build, every test
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The build that the tests compile against; any later one should do.
TORCH ?= torch==2.13.0
JOBS ?= $(shell nproc)
# Warnings are errors where changes are judged, not where people install.
WERROR ?= $(if $(CI),ON,OFF)
CMAKE := $(abspath $(BIN)/cmake)
WITH_VENV := VIRTUAL_ENV=$(abspath $(VENV)) PATH=$(abspath $(BIN)):$$PATH

sources := CMakeLists.txt setup.py pyproject.toml $(shell find cmake csrc -type f 2>/dev/null)

.PHONY: help
help:
	@sed -n 's/^# //p' Makefile

# ---- environment ----
$(VENV)/.environment: pyproject.toml Makefile
	@scripts/system_packages.sh
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet "$(TORCH)" numpy
	$(BIN)/python -m pip install --quiet cmake ninja
	$(BIN)/python scripts/requirements.py study onnx dev > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet -r $(VENV)/requirements.txt
	@# torchvision's own requirements would replace a CPU build of torch by another
	$(BIN)/python -m pip install --quiet --no-deps "torchvision==0.28.0" pillow
	@touch $@

$(VENV)/.built: $(VENV)/.environment $(sources)
	PATH=$(abspath $(BIN)):$$PATH CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) CMAKE_ARGS=-DPTQX_WERROR=$(WERROR) \
	  $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: env build
env: $(VENV)/.environment
# make build  the environment and an editable install
build: $(VENV)/.built

# ---- the main job ----
.PHONY: demo
demo: build
	$(BIN)/ptqx demo

# ---- tests ----
.PHONY: test test-cpp test-sanitizers test-python test-package lint coverage
test: lint test-cpp test-sanitizers test-python test-package

# make lint   formatting, types
lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'tests/cpp/*.cpp' 'tests/cpp/*.h' 'benchmarks/*.cpp' 'benchmarks/*.h' 'examples/*.cpp' 'examples/*.h')

# The build folder of the installation, with the tests added.
test-cpp: build
	folder=build/$$($(BIN)/python -c 'import sys; print(sys.implementation.cache_tag)'); \
	$(WITH_VENV) $(CMAKE) -B $$folder -DPTQX_TESTS=ON > /dev/null && \
	$(WITH_VENV) $(CMAKE) --build $$folder --parallel $(JOBS) && \
	$(WITH_VENV) $(BIN)/ctest --test-dir $$folder --output-on-failure --no-tests=error --parallel $(JOBS)

test-sanitizers: env
	$(WITH_VENV) $(CMAKE) --preset asan > /dev/null
	$(WITH_VENV) $(CMAKE) --build --preset asan --parallel $(JOBS)
	$(WITH_VENV) $(BIN)/ctest --preset asan --parallel $(JOBS)

test-python: build
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# make coverage  the Python tests again, with the lines and branches they reach (half as long again)
coverage: build
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term:skip-covered

# Programs of users, examples/ among them, built against the installed package.
test-package: build
	$(WITH_VENV) $(BIN)/python -m pytest tests/cpp/package

.PHONY: clean
# make clean  removes what builds and installs wrote
clean:
	rm -rf build python/ptqx.egg-info python/ptqx/lib python/ptqx/include python/ptqx/_C*.so $(VENV)/.built
