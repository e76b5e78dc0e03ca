#!/bin/sh
# build.sh rpc|vulkan DIRECTORY: a llama-cpp-python there whose llama.cpp can put layers on devices:
# of RPC servers, or of Vulkan drivers (Mesa's computes on the CPU, so no GPU is needed). Takes
# minutes, once; ended before, it goes on where it was. PYTHON says which interpreter it is for.
set -eu
kind=$1
target=$2
python=${PYTHON:-python3}
version=0.3.36
vulkan=$target.packages # of Debian, unpacked: only headers and CMake files
work=$target.build      # kept until the build is through

main() {
    case $kind in
    rpc) options="-DGGML_RPC=on" ;;
    vulkan)
        need_drivers
        unpack_headers
        options="-DGGML_VULKAN=on -DVulkan_INCLUDE_DIR=$vulkan/usr/include \
-DVulkan_LIBRARY=$(loader) -DSPIRV-Headers_DIR=$vulkan/usr/share/cmake/SPIRV-Headers"
        ;;
    *) fail "'$kind' is neither rpc nor vulkan" ;;
    esac
    fetch_source
    echo "building llama-cpp-python with $kind in $target; this takes minutes, once"
    CMAKE_ARGS="$options" "$work/tools/bin/python" -m pip wheel --quiet --no-deps --no-cache-dir \
        --no-build-isolation -C build-dir="$work/cmake" --wheel-dir "$work/wheel" "$work/source"
    "$python" -m pip install --quiet --no-deps --upgrade --target "$target" "$work"/wheel/*.whl
    touch "$target/.built"
    rm -rf "$work"
}

# Source and tools at paths that stay, since CMake begins anew when one of them moves.
fetch_source() {
    [ ! -d "$work/source" ] || return 0
    "$python" -m venv "$work/tools"
    "$work/tools/bin/python" -m pip install --quiet "scikit-build-core[pyproject]" cmake ninja
    "$work/tools/bin/python" -m pip download --quiet --no-deps --no-build-isolation \
        --no-binary llama-cpp-python --dest "$work" "llama-cpp-python==$version"
    mkdir -p "$work/unpacked"
    tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work/unpacked" --strip-components 1
    mv "$work/unpacked" "$work/source"
}

fail() {
    echo "tests/offload/build.sh: $1" >&2
    exit 1
}

# The compiler for shaders, the loader, and a driver that computes on the CPU.
need_drivers() {
    has_drivers && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends mesa-vulkan-drivers glslc >/dev/null
    fi
    has_drivers || fail "needs a shader compiler, the Vulkan loader and Mesa's software driver. \
On Debian or Ubuntu, as root:
  apt-get install mesa-vulkan-drivers glslc
elsewhere the packages that have glslc, libvulkan.so.1 and lvp_icd.*.json; then run this again"
}

has_drivers() {
    command -v glslc >/dev/null && [ -n "$(loader)" ] && ls /usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1
}

loader() {
    "${LDCONFIG:-/sbin/ldconfig}" -p | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -n 1
}

# llama.cpp needs newer headers than Debian 12 has. Those of the next suite are unpacked, not
# installed, and nothing of this machine's list of packages changes.
unpack_headers() {
    [ ! -d "$vulkan/usr/share/cmake/SPIRV-Headers" ] || return 0
    command -v apt-get >/dev/null || fail "takes the Vulkan and SPIR-V headers from Debian's \
packages, and there is no apt-get here. Unpack libvulkan-dev and spirv-headers of Debian 13, or what \
has the same files, into $vulkan; then run this again"
    mkdir -p "$vulkan/lists/partial" "$vulkan/cache/archives/partial"
    cd "$vulkan"
    # shellcheck disable=SC2016  # apt expands it
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$') \
        || fail "apt knows no archive of Debian; see its sources"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $uri ${QM_TEST_SUITE:-trixie} main" >sources.list
    for step in update "download libvulkan-dev spirv-headers"; do
        # shellcheck disable=SC2086  # the step's words are words
        apt-get -qq -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User=root $step
    done
    for package in ./*.deb; do dpkg-deb -x "$package" .; done
    rm -rf ./*.deb lists cache sources.list
}

main
