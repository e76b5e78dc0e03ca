#!/bin/sh
# llama-cpp.sh PYTHON [pip's options]: the llama-cpp-python that qm requires, for that interpreter.
# CMAKE_ARGS says what its llama.cpp is built for. Takes minutes, once for each kind of build.
#
# A native build with AVX512-FP16 adds up attention in 16-bit vectors of 128 numbers: heads of 64 or
# 96 don't fill them, and go number by number. And AMX dies on virtual machines that announce it, so
# that qm forgoes it. Without both, all else stays native.
set -eu
requirement=$(sed -n 's/^ *"\(llama-cpp-python[^"]*\)".*/\1/p' "$(dirname "$0")/../pyproject.toml")
unwanted="-mno-avx512fp16 -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"

# Only where the processor has them and the compiler knows them.
needless_instructions() {
    grep -qs '^flags.* avx512_fp16' /proc/cpuinfo || return 0
    # shellcheck disable=SC2086  # they are several
    if "${CXX:-c++}" $unwanted -x c++ -fsyntax-only /dev/null 2>/dev/null; then
        printf '%s' "$unwanted"
    fi
}

# pip keeps the wheels that it builds but not what they were built for, so each kind has a cache.
cache_for() {
    common=$("$1" -m pip cache dir 2>/dev/null) || return 0
    printf '%s/qm-%s' "$common" "$(printf '%s' "$2" | cksum | cut -d ' ' -f 1)"
}

python=$1
shift
flags=$(needless_instructions)
arguments=${CMAKE_ARGS:-}
if [ -n "$flags$arguments" ]; then
    cache=$(cache_for "$python" "$arguments $flags")
    set -- "$@" --no-binary=llama-cpp-python
    if [ -n "$cache" ]; then set -- "$@" --cache-dir "$cache"; else set -- "$@" --no-cache-dir; fi
fi
export CFLAGS="${CFLAGS:-}${flags:+ $flags}" CXXFLAGS="${CXXFLAGS:-}${flags:+ $flags}"
exec "$python" -m pip install "$@" "$requirement"
