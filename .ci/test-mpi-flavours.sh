#!/bin/sh
# Runs the tests of ranks under the Open MPI and the MPICH of Debian and Ubuntu, with mpi4py built for each.
# Usage: sh .ci/test-mpi-flavours.sh PYTHON [pytest arguments]. The package in this directory is used, with its kernels.
# apt install libopenmpi-dev openmpi-bin libmpich-dev mpich
set -eu
cd "$(dirname "$0")/.."
python=$1
shift

for flavour in openmpi mpich; do
    for program in mpicc.$flavour mpiexec.$flavour; do
        command -v $program >/dev/null ||
            { echo "test-mpi-flavours needs $program: apt install lib$flavour-dev openmpi-bin mpich" >&2; exit 1; }
    done
done

for flavour in openmpi mpich; do
    root=$PWD/build/mpi/$flavour
    if [ ! -e "$root/.complete" ]; then
        echo "building mpi4py for $flavour ..."
        rm -rf "$root"
        "$python" -m venv "$root"
        # Without optimization, it compiles in a minute, not in several. A cached wheel is that of another MPI.
        CFLAGS="-O0 -g0" MPICC=$(command -v mpicc.$flavour) "$root/bin/python" -m pip --quiet \
            --disable-pip-version-check install --no-cache-dir --no-binary mpi4py "mpi4py>=4"
        "$root/bin/python" -m pip --quiet --disable-pip-version-check install \
            "numpy>=2" hypothesis mpmath pytest pytest-timeout
        ln -s "$(command -v mpiexec.$flavour)" "$root/bin/mpiexec"
        "$root/bin/python" -c 'import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "syncbn.pth").write_text(sys.argv[1])' "$PWD"
        touch "$root/.complete"
    fi
    echo "== $("$root/bin/python" -c 'from mpi4py import MPI; print(MPI.Get_library_version().splitlines()[0])')"
    PATH="$root/bin:$PATH" "$root/bin/python" tests/run.py --ranks 2 3 tests/comm tests/functional tests/layers "$@"
done
