#!/bin/sh
# Says what to install when something that the build needs is missing. Usage: preflight.sh PYTHON
python=$1
missing=0

need() {
    echo "missing: $1" >&2
    missing=1
}

compiles() {
    directory=$(mktemp -d)
    printf '#include <stdlib.h>\n#include <omp.h>\nint main(void) { return 0; }\n' >"$directory/try.c"
    $1 -fopenmp "$directory/try.c" -o "$directory/try" >/dev/null 2>&1
    status=$?
    rm -rf "$directory"
    return $status
}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    need "Python 3.10 or newer ('$python' is not). On Debian and Ubuntu: apt install python3; or name another: make PYTHON=python3.12"
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    need "Python's venv module. On Debian and Ubuntu: apt install python3-venv"
compiles "${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}" ||
    need "a C compiler with the C library's headers and OpenMP. On Debian and Ubuntu: apt install gcc libc6-dev"
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
    need "Python's C headers. On Debian and Ubuntu: apt install python3-dev"
exit $missing
