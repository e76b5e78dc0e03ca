#!/bin/sh
# Puts Debian's docker-registry into the cache, for tests that need a real OCI registry. Takes no
# root and starts no service: the package is downloaded and unpacked, not installed.
set -eu
cache=${QM_TEST_CACHE:-$HOME/.cache/qm-tests}
binary=$cache/docker-registry/usr/bin/docker-registry

if command -v docker-registry >/dev/null || [ -x "$binary" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no docker-registry here; the tests of pulling and pushing images will fail without it" >&2
    exit 0
fi
mkdir -p "$cache/docker-registry"
cd "$cache/docker-registry"
if ! apt-get download -qq docker-registry 2>/dev/null; then
    [ "$(id -u)" != 0 ] || apt-get update -qq
    apt-get download -qq docker-registry
fi
dpkg-deb -x docker-registry_*.deb .
rm docker-registry_*.deb
