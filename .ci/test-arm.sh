#!/bin/sh
# Builds the kernels for 64-bit Arm and runs their tests under QEMU, in one process, on Debian 12.
# Usage: sh .ci/test-arm.sh PYTHON [pytest arguments].
#
# Python for that architecture is taken from Debian's packages, which are unpacked, not installed, and NumPy from a wheel.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
root=$PWD/build/arm
packages="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev libc6 libc6-dev linux-libc-dev
    libexpat1 zlib1g libffi8 libssl3 libgomp1 libgcc-s1 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libncursesw6 libtinfo6
    libcrypt1 libstdc++6"

for program in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64-static; do
    command -v $program >/dev/null ||
        { echo "test-arm needs $program: apt install g++-aarch64-linux-gnu qemu-user-static" >&2; exit 1; }
done

if [ ! -e "$root/.complete" ]; then
    echo "fetching Python and NumPy for 64-bit Arm into build/arm ..."
    rm -rf "$root" && mkdir -p "$root/state/lists/partial" "$root/cache/archives/partial" "$root/system"
    apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State=$root/state -o Dir::Cache=$root/cache
        -o Dir::State::status=/dev/null -o APT::Sandbox::User="
    $apt update
    (cd "$root/cache" && $apt download $packages)
    for package in "$root"/cache/*.deb; do dpkg -x "$package" "$root/system"; done
    "$python" -m pip install --quiet --only-binary=:all: --python-version 3.11 --target "$root/site" \
        --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
        "numpy>=2" pytest pytest-timeout hypothesis mpmath
    touch "$root/.complete"
fi

echo "compiling ..."
# setup.py leaves out the instruction sets that this compiler does not know.
include=$root/system/usr/include
CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so \
    CPPFLAGS="-I$root/site/numpy/_core/include -I$include/python3.11 -idirafter $include" \
    "$python" setup.py --quiet build_ext --build-lib "$root/lib" --build-temp "$root/temp"
rm -rf "$root/package" && mkdir -p "$root/package"
cp -r syncbn "$root/package/"
rm -f "$root"/package/syncbn/_kernels/*.so
cp "$root"/lib/syncbn/_kernels/*aarch64*.so "$root/package/syncbn/_kernels"

# Tests that start further processes are left out: these would need the emulator too.
PYTHONPATH="$root/package:$root/site:tests" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=2 \
    qemu-aarch64-static -L "$root/system" "$root/system/usr/bin/python3.11" -P -m pytest -q -p no:cacheprovider \
    -o pythonpath= -m "not ranks" --timeout 900 tests/kernels tests/functional tests/exact \
    --ignore tests/exact/test_mpi_algorithms.py --ignore tests/functional/test_changed_arrays.py \
    -k "not runs_on_the_reference" "$@"
