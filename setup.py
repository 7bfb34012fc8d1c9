"""Builds the compiled kernels: ext/NAME.pyx becomes syncbn._kernels.NAME."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILE_ARGS = [
    "-O3",
    "-fno-math-errno",  # lets sqrt be one instruction; results are the same
    "-ffp-contract=off",  # a multiply and an add round twice on every machine: same bits everywhere
    "-fvisibility=hidden",
    "-Wno-psabi",  # vectors wider than a register are only passed between inlined functions
]

sources = sorted(Path("ext").glob("*.pyx"))
if not sources:
    raise SystemExit("ext/*.pyx is missing: build from the root of the repository or of the sdist")

extensions = [
    Extension(
        f"syncbn._kernels.{path.stem}",
        [path.as_posix()],
        extra_compile_args=COMPILE_ARGS,
        depends=[header.as_posix() for header in sorted(Path("ext").glob("*.h"))],
    )
    for path in sources
]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}

setup(
    ext_modules=cythonize(extensions, include_path=["ext"], build_dir="build", compiler_directives=DIRECTIVES),
    options={"build_ext": {"parallel": 2}},
)
