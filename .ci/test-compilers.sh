#!/bin/sh
# Builds the extensions with each numbered GCC and Clang that is installed, such as gcc-11 and clang-14, and runs the
# kernels' tests on each build. A warning about a header in ext/kernels is a failure.
# Usage: sh .ci/test-compilers.sh PYTHON [pytest arguments].
# On Debian 12: apt install g++-11 g++-12 clang-14 clang-15 clang-16 libomp-14-dev. Without libomp, Clang builds for one
# thread.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
found=

test_compiler() { # CC CXX [pytest arguments]
    root=$PWD/build/compilers/$1
    echo "== $("$1" --version | head -n 1)"
    mkdir -p "$root"
    CC=$1 CXX=$2 CFLAGS="-g0 -Wall -Wextra" CXXFLAGS="-g0 -Wall -Wextra" \
        "$python" setup.py build_ext --force --build-lib "$root/lib" --build-temp "$root/temp" >"$root/log" 2>&1 ||
        { tail -n 20 "$root/log" >&2; exit 1; }
    if grep "ext/kernels/.*warning:" "$root/log" >&2; then exit 1; fi
    rm -rf "$root/package"
    mkdir "$root/package"
    cp -r syncbn "$root/package"
    rm -f "$root"/package/syncbn/_kernels/*.so
    cp "$root"/lib/syncbn/_kernels/*.so "$root/package/syncbn/_kernels"
    shift 2
    # Python's own -m would put the working directory, with the ordinary kernels, before PYTHONPATH.
    PYTHONPATH="$root/package" "$python" -c "
import sys; sys.path.remove('')
from syncbn._kernels import processor
assert '$root' in processor.__file__, processor.__file__
sys.path.insert(0, 'tests')
import pytest
sys.exit(pytest.main(sys.argv[1:]))
" tests/kernels "$@"
}

for version in $(seq 9 30); do
    for pair in "gcc-$version g++-$version" "clang-$version clang++-$version"; do
        if command -v "${pair% *}" >/dev/null && command -v "${pair#* }" >/dev/null; then
            found=1
            # shellcheck disable=SC2086  # a pair is two words
            test_compiler $pair "$@"
        fi
    done
done
test "$found" || { echo "test-compilers needs numbered compilers: apt install g++-11 clang-14 libomp-14-dev" >&2; exit 1; }
