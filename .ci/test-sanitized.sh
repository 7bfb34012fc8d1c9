#!/bin/sh
# Runs the tests of the kernels with the address and undefined-behaviour sanitizers of GCC (on Linux), in one process.
# Usage: sh .ci/test-sanitized.sh PYTHON [pytest arguments]. The kernels are compiled when they are older than ext/.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
root=build/sanitized

libasan=$(${CC:-gcc} -print-file-name=libasan.so)
libstdcxx=$(${CC:-gcc} -print-file-name=libstdc++.so.6)
test -e "$libasan" || { echo "test-sanitized needs GCC and its libasan" >&2; exit 1; }

if [ -z "$(find "$root/wheel" -name '*.so' 2>/dev/null)" ] || [ -n "$(find ext setup.py -newer "$root/wheel")" ]; then
    # From an sdist, in a temporary directory: nothing of the ordinary build is taken, or left there.
    rm -rf "$root"
    "$python" -m build --sdist --outdir "$root/sdist" . >/dev/null
    sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
    CFLAGS=$sanitize CXXFLAGS=$sanitize LDFLAGS="-fsanitize=address,undefined" \
        "$python" -m pip --quiet --disable-pip-version-check install \
        --no-deps --target "$root/wheel" "$root"/sdist/*.tar.gz
    touch "$root/wheel"
fi
# The package as it is now, with those kernels.
rm -rf "$root/path"
mkdir "$root/path"
cp -r syncbn "$root/path"
rm -f "$root"/path/syncbn/_kernels/*.so
cp "$root"/wheel/syncbn/_kernels/*.so "$root/path/syncbn/_kernels"

export LD_PRELOAD="$libasan $libstdcxx" PYTHONPATH="$PWD/$root/path" PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
# Python's own -m would put the working directory, with the ordinary kernels, before PYTHONPATH.
"$python" -c "
import sys; sys.path.remove('')
from syncbn._kernels import processor
assert '$root' in processor.__file__, processor.__file__
sys.path.insert(0, 'tests')
import pytest
sys.exit(pytest.main(['--capture=sys', *sys.argv[1:]]))  # a sanitizer's report bypasses pytest
" tests/kernels tests/functional tests/layers tests/fuzz/test_functional.py tests/fuzz/test_layers.py "$@"
