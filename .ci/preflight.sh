#!/bin/sh
# Reports what to install when something that the build needs is missing. Usage: preflight.sh PYTHON
python=$1
missing=0

need() {
    echo "missing: $1" >&2
    missing=1
}

# Usage: compiles COMMAND SUFFIX HEADER: whether the command makes a program that includes this header.
compiles() {
    directory=$(mktemp -d)
    printf '#include <%s>\nint main(void) { return 0; }\n' "$3" >"$directory/try.$2"
    $1 "$directory/try.$2" -o "$directory/try" >/dev/null 2>&1
    status=$?
    rm -rf "$directory"
    return $status
}

# Usage: check_version COMMAND: reports a GCC or Clang that is too old. Other compilers are not checked.
check_version() {
    # shellcheck disable=SC2086  # a command may be several words, such as "ccache g++"
    found=$(printf '#ifdef __clang__\nclang __clang_major__\n#elif defined __GNUC__\ngcc __GNUC__\n#endif\n' |
        $1 -E -P -x c - 2>/dev/null | tr -d '"')
    case $found in
    clang*) oldest=14 ;;
    gcc*) oldest=9 ;;
    *) return ;;
    esac
    test "${found#* }" -ge $oldest ||
        need "${found% *} $oldest or newer ('$1' is version ${found#* }). Name another: make CC=gcc-12 CXX=g++-12"
}

# Usage: command_of NAME DEFAULT: the compiler that Python's build of extensions takes.
command_of() {
    "$python" -c 'import sys, sysconfig; print(sysconfig.get_config_var(sys.argv[1]) or sys.argv[2])' "$1" "$2"
}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    need "Python 3.10 or newer ('$python' is not). On Debian and Ubuntu: apt install python3; or name another: make PYTHON=python3.12"
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    need "Python's venv module. On Debian and Ubuntu: apt install python3-venv"
CC=${CC:-$(command_of CC cc)}
CXX=${CXX:-$(command_of CXX c++)}
check_version "$CC"
compiles "$CC" c stdlib.h ||
    need "a C compiler with the C library's headers ('$CC' is not). On Debian and Ubuntu: apt install gcc libc6-dev"
compiles "$CXX -std=c++17" cpp algorithm ||
    need "a C++17 compiler ('$CXX' is not). On Debian and Ubuntu: apt install g++"
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
    need "Python's C headers. On Debian and Ubuntu: apt install python3-dev"
exit $missing
