"""Builds the extensions: ext/kernels.pyx for each instruction set, and every other ext/*.pyx once.

It also changes the links of README.md for package indexes.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

COMPILE_ARGS = [
    "-O3",
    "-fno-math-errno",  # lets sqrt be one instruction; results are the same
    "-fno-trapping-math",  # lets comparisons be vectors; results are the same
    "-ffp-contract=off",  # a multiply and an add round twice on every machine: same bits everywhere
    "-fvisibility=hidden",
    "-Wno-psabi",  # vectors wider than a register are only passed between inlined functions
    "-fno-asynchronous-unwind-tables",  # no code of ours unwinds: a smaller file, with the same instructions
    *([] if "CFLAGS" in os.environ else ["-g0"]),  # Python's own flags ask for -g, a sixth of the time
]
CPP_ARGS = ["-std=c++17", "-fno-exceptions"]  # kernels raise nothing
LINK_ARGS = ["-Wl,-s"] if sys.platform == "linux" and "CFLAGS" not in os.environ else []  # no symbols: smaller files
INSTRUCTION_SETS = {
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
    "baseline": [],
}
CYTHON_ARGS = [
    "-3",
    "--include-dir=ext",
    "--directive=boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True,embedsignature=True",
]
KERNELS = Path("ext/kernels.pyx")
if not KERNELS.exists():
    raise SystemExit(f"{KERNELS} is missing: build from the root of the repository or of the sdist")


def description():
    """Return README.md without relative links, since package indexes do not show the files that they point to.

    SYNCBN_REPOSITORY is the address of the files on the web, such as https://HOST/OWNER/syncbn/blob/v0.1.0, for
    absolute links. Without it, links become their texts, and images are left out.
    """
    repository = os.environ.get("SYNCBN_REPOSITORY", "").rstrip("/")

    def absolute(link):
        image, text, target = link.groups()
        if not repository:
            return "" if image else text
        return f"{image}[{text}]({repository}/{target}{'?raw=true' if image else ''})"

    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^]]*)\]\((?!https?:)([^)]*)\)", absolute, text)


def extension(name, source, **options):
    """Return one extension module."""
    headers = (path for path in Path("ext").rglob("*") if path.suffix in {".h", ".pxd", ".pxi"})
    return Extension(
        f"syncbn._kernels.{name}",
        [source.as_posix()],
        depends=[path.as_posix() for path in sorted(headers)],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        **options,
    )


class BuildExtensions(build_ext):
    """Leave out what the compiler does not know, translate Cython, and compile."""

    def build_extensions(self):
        """Build the extensions with the arguments that the compiler accepts."""
        openmp = ["-fopenmp"] if self._accepts("-fopenmp", "-include", "omp.h") else []
        if not openmp:
            self.warn("the compiler has no OpenMP: kernels will run on one thread")
        self.extensions = [ext for ext in self.extensions if self._accepts(*ext.extra_compile_args)]
        for ext in self.extensions:
            ext.extra_compile_args = [*COMPILE_ARGS, *openmp, *ext.extra_compile_args]
            ext.extra_link_args = [*openmp, *LINK_ARGS]
        self.parallel = self.parallel or os.cpu_count()  # an editable install ignores the options of setup()
        super().build_extensions()

    def build_extension(self, ext):
        """Translate one extension, in a process of its own, and compile it."""
        import numpy

        suffix, language = (".cpp", ["--cplus"]) if ext.language == "c++" else (".c", [])
        target = f"build/cython/{ext.name}{suffix}"
        if self.force or newer_group([*ext.sources, *ext.depends], target):
            self.mkpath("build/cython")
            arguments = [*CYTHON_ARGS, *language, f"--module-name={ext.name}", f"--output-file={target}", *ext.sources]
            subprocess.run([sys.executable, "-m", "cython", *arguments], check=True)
        ext.sources = [target]
        ext.include_dirs = ["ext", numpy.get_include()]
        super().build_extension(ext)

    def _accepts(self, *args):
        """Return whether the compiler makes a library with these arguments."""
        compiler = self.compiler.compiler_so_cxx if "-std=c++17" in args else self.compiler.compiler_so
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "empty.c" if compiler is self.compiler.compiler_so else "empty.cpp")
            source.touch()
            command = [*compiler, *args, "-shared", str(source), "-o", f"{directory}/library"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0


kernels = [
    extension(f"kernels_{name}", KERNELS, language="c++", extra_compile_args=[*CPP_ARGS, *args])
    for name, args in INSTRUCTION_SETS.items()
]
others = [extension(path.stem, path, language="c") for path in sorted(set(Path("ext").glob("*.pyx")) - {KERNELS})]

setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[*kernels, *others],
    cmdclass={"build_ext": BuildExtensions},
)
