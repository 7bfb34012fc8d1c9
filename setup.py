"""Builds what is compiled: ext/NAME.pyx becomes syncbn._kernels.NAME_SET for each instruction set.

What calls kernels, plain_NAME.pyx, what asks the processor, and the protocol of ranks are the same for all.
"""

import multiprocessing
import os
import platform
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILE_ARGS = [
    "-O3",
    "-fopenmp",
    "-fno-math-errno",  # lets sqrt be one instruction; results are the same
    "-fno-trapping-math",  # lets comparisons be vectors; results are the same
    "-ffp-contract=off",  # a multiply and an add round twice on every machine: same bits everywhere
    "-fvisibility=hidden",
    "-Wno-psabi",  # vectors wider than a register are only passed between inlined functions
    *([] if "CFLAGS" in os.environ else ["-g0"]),  # Python's own flags ask for -g, a sixth of the time
]
INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS |= {
        "avx2": ["-march=x86-64-v3"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }
WRAPPED = sys.platform == "linux"  # parallel regions of one thread, see ext/parallel.h
SHARED = "syncbn._kernels._cyutility"  # what Cython would else put into every module again

once = sorted(path for pattern in ("processor.pyx", "protocol.pyx", "plans.pyx") for path in Path("ext").glob(pattern))
sources = sorted(set(Path("ext").glob("*.pyx")) - set(once))
if not sources:
    raise SystemExit("ext/*.pyx is missing: build from the root of the repository or of the sdist")
headers = [header.as_posix() for pattern in ("*.h", "*.pxd", "*.pxi") for header in sorted(Path("ext").glob(pattern))]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}


def extension(name, source, *flags):
    """Return one extension module."""
    return Extension(
        f"syncbn._kernels.{name}",
        [source],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *[("SYNCBN_WRAPPED", None)] * WRAPPED],
        extra_compile_args=[*COMPILE_ARGS, *flags],
        extra_link_args=["-fopenmp", *["-Wl,--wrap=GOMP_parallel"] * WRAPPED],
        depends=headers,
    )


def translated(extensions, build_dir):
    """Translate to C, into a directory of its own: one source is translated once for each instruction set."""
    return cythonize(
        extensions,
        include_path=["ext"],
        build_dir=build_dir,
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=2 if multiprocessing.get_start_method() == "fork" else 0,  # else each would run this file again
    )


modules = [Extension(SHARED, ["_cyutility.c"]), *(extension(path.stem, path.as_posix()) for path in once)]
modules = translated(modules, "build/shared")
for name, flags in INSTRUCTION_SETS.items():
    kernels = [extension(f"{path.stem}_{name}", path.as_posix(), *flags) for path in sources]
    modules += translated(kernels, f"build/{name}")

setup(ext_modules=modules, options={"build_ext": {"parallel": 2}})
