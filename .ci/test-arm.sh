#!/bin/sh
# Builds the kernels for 64-bit Arm and runs their tests under QEMU, in one process, on Debian 12.
# Usage: sh .ci/test-arm.sh PYTHON [pytest arguments].
#
# Python of that architecture comes as Debian's packages, which are unpacked, not installed; NumPy as a wheel. The C files
# are those that the last build of this checkout has left in build/.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
root=$PWD/build/arm
packages="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev libc6 libc6-dev linux-libc-dev
    libexpat1 zlib1g libffi8 libssl3 libgomp1 libgcc-s1 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libncursesw6 libtinfo6
    libcrypt1 libstdc++6"

for program in aarch64-linux-gnu-gcc qemu-aarch64-static; do
    command -v $program >/dev/null ||
        { echo "test-arm needs $program: apt install gcc-aarch64-linux-gnu qemu-user-static" >&2; exit 1; }
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
rm -rf "$root/package" && mkdir -p "$root/package"
cp -r syncbn "$root/package/"
rm -f "$root"/package/syncbn/_kernels/*.so
compile() {
    # the flags of setup.py
    aarch64-linux-gnu-gcc -shared -fPIC -O3 -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=off -Wno-psabi \
        -DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION -I"$root/site/numpy/_core/include" -Iext -I. \
        -I"$root/system/usr/include/python3.11" -I"$root/system/usr/include" \
        "$1" -o "$root/package/syncbn/_kernels/$2.cpython-311-aarch64-linux-gnu.so"
}
for file in build/baseline/ext/*.c; do compile "$file" "$(basename "$file" .c)_baseline"; done
for file in build/shared/ext/*.c; do compile "$file" "$(basename "$file" .c)"; done
compile "$(find build -name _cyutility.c | head -n 1)" _cyutility

# Tests that start further processes are left out: these would need the emulator too.
PYTHONPATH="$root/package:$root/site:tests" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=2 \
    qemu-aarch64-static -L "$root/system" "$root/system/usr/bin/python3.11" -P -m pytest -q -p no:cacheprovider \
    -o pythonpath= -m "not ranks" --timeout 900 tests/kernels tests/functional tests/exact \
    --ignore tests/exact/test_mpi_algorithms.py -k "not runs_on_the_reference" "$@"
