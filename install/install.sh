#!/bin/sh
# Installs qm for one user: an environment of its own, the qm command, shell completion and, when
# asked for, a service. `install.sh --help` lists the choices.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source_dir=$(dirname "$here")

usage() {
    cat <<'HELP'
usage: install.sh [--prefix DIR] [--backend NAME] [--service | --no-service] [--dry-run]
       install.sh [--prefix DIR] --uninstall

  --prefix DIR      where to install (default ~/.local): DIR/bin/qm, DIR/lib/qm, DIR/share
  --backend NAME    what llama.cpp is built for: auto, cpu, cuda, rocm, vulkan, metal
  --service         start qm at login (systemd user unit or launchd agent); --no-service doesn't ask
  --dry-run         say what would be done, and change nothing
  --uninstall       take everything back; models stay

QM_PYTHON names the Python to use; CMAKE_ARGS adds to how llama.cpp is built.
HELP
}

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

parse_arguments() {
    prefix=$HOME/.local backend=auto service=ask dry_run=no action=install
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix) [ $# -gt 1 ] || die "--prefix needs a directory"; prefix=$2; shift ;;
            --prefix=*) prefix=${1#*=} ;;
            --backend) [ $# -gt 1 ] || die "--backend needs a name"; backend=$2; shift ;;
            --backend=*) backend=${1#*=} ;;
            --service) service=yes ;;
            --no-service) service=no ;;
            --dry-run) dry_run=yes ;;
            --uninstall) action=uninstall ;;
            -h | --help) usage; exit 0 ;;
            *) usage >&2; die "unknown argument: $1" ;;
        esac
        shift
    done
    case $prefix in
        /*) ;;
        *) prefix=$PWD/$prefix ;;
    esac
    home=$prefix/lib/qm
    record=$home/installed.txt
}

# What llama.cpp is built for -----------------------------------------------------------------

# Sets backend and reason. A GPU counts only together with the tools that building for it takes.
choose_backend() {
    reason="asked for"
    case $backend in
        cpu | cuda | rocm | vulkan | metal) return ;;
        auto) ;;
        *) die "unknown backend '$backend'; choose auto, cpu, cuda, rocm, vulkan or metal" ;;
    esac
    missing=""
    if [ "$(uname -s)" = Darwin ]; then
        choose_on_macos
    elif has_nvidia_gpu && has_or_note nvcc "found an NVIDIA GPU, but no CUDA toolkit (nvcc)"; then
        backend=cuda reason="an NVIDIA GPU and the CUDA toolkit were found"
    elif has_amd_gpu && has_or_note hipcc "found an AMD GPU, but no ROCm compiler (hipcc)"; then
        backend=rocm reason="an AMD GPU and ROCm were found"
    elif has_vulkan_gpu && has_or_note glslc "found a Vulkan GPU, but no shader compiler (glslc)"; then
        backend=vulkan reason="a Vulkan GPU and its shader compiler were found"
    else
        backend=cpu reason=${missing:-"no GPU was found"}
    fi
}

choose_on_macos() {
    if [ "$(uname -m)" = arm64 ]; then
        backend=metal reason="Apple silicon"
    else
        backend=cpu reason="an Intel Mac"
    fi
}

has_or_note() {
    has "$1" && return 0
    missing="${missing:+$missing; }$2"
    return 1
}

has_nvidia_gpu() { has nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }
has_amd_gpu() { has rocminfo && rocminfo 2>/dev/null | grep -q 'Name: *gfx'; }
has_vulkan_gpu() {
    has vulkaninfo && vulkaninfo --summary 2>/dev/null | grep -q 'TYPE_\(DISCRETE\|INTEGRATED\)_GPU'
}

cmake_arguments() {
    case $backend in
        cuda) printf '%s' -DGGML_CUDA=on ;;
        rocm) printf '%s' -DGGML_HIP=on ;;
        vulkan) printf '%s' -DGGML_VULKAN=on ;;
        metal) printf '%s' -DGGML_METAL=on ;;
        cpu) [ "$(uname -s)" != Darwin ] || printf '%s' -DGGML_METAL=off ;;
    esac
}

# Files ---------------------------------------------------------------------------------------

# What we make outside of $home is noted in $record, so that it can be taken back.
note() { grep -qxF "$1" "$record" || printf '%s\n' "$1" >>"$record"; }

# The directories that are missing on the way to $1, outermost first.
missing_directories() {
    [ -d "$1" ] || { missing_directories "$(dirname "$1")"; printf '%s\n' "$1"; }
}

start_record() {
    made=$(missing_directories "$home")
    mkdir -p "$home"
    [ -e "$record" ] || printf '%s\n' "$made" >"$record"
}

make_directory() {
    missing_directories "$1" | while IFS= read -r directory; do
        mkdir "$directory"
        note "$directory"
    done
}

# Writes standard input to $1, which is never half there.
write_file() {
    make_directory "$(dirname "$1")"
    cat >"$1.new"
    mv "$1.new" "$1"
    note "$1"
}

# Newest first: files go before the directories that hold them, and those only when empty.
take_back() {
    sed -n '1!G;h;$p' "$1" | while IFS= read -r path; do
        if [ -d "$path" ] && [ ! -L "$path" ]; then
            rmdir "$path" 2>/dev/null || say "kept $path: it is not empty"
        else
            rm -f "$path"
        fi
    done
}

# Installing ----------------------------------------------------------------------------------

install_environment() {
    [ -x "$home/venv/bin/python" ] || "$here/find-python.sh" -m venv "$home/venv"
    install_llama_cpp || die_of_build
    # From a copy: building inside the checkout would leave its traces there.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    for part in pyproject.toml README.md LICENSE cli daemon modelfiles store; do
        cp -R "$source_dir/$part" "$copy/"
    done
    "$home/venv/bin/python" -m pip install --quiet "$copy"
}

install_llama_cpp() {
    arguments="$(cmake_arguments)${CMAKE_ARGS:+ $CMAKE_ARGS}"
    set -- --quiet
    if [ -e "$home/built-for" ] && [ "$(cat "$home/built-for")" != "$backend $arguments" ]; then
        set -- "$@" --force-reinstall --no-deps
    fi
    CMAKE_ARGS=$arguments "$here/llama-cpp.sh" "$home/venv/bin/python" "$@" || return 1
    printf '%s\n' "$backend $arguments" >"$home/built-for"
}

die_of_build() {
    has c++ || die "llama.cpp could not be built: there is no C++ compiler" \
        "(Debian: apt install build-essential; macOS: xcode-select --install)"
    die "llama.cpp could not be built for $backend; what pip says stands above." \
        "--backend cpu needs a C++ compiler and nothing else"
}

install_command() {
    command=$prefix/bin/qm
    make_directory "$prefix/bin"
    ln -sf "$home/venv/bin/qm" "$command"
    note "$command"
}

install_completions() {
    qm=$home/venv/bin/qm
    for shell in bash zsh fish; do
        case $shell in
            bash) file=$prefix/share/bash-completion/completions/qm ;;
            zsh) file=$prefix/share/zsh/site-functions/_qm ;;
            fish) file=$prefix/share/fish/vendor_completions.d/qm.fish ;;
        esac
        script=$("$qm" completion "$shell")
        printf '%s\n' "$script" | write_file "$file"
    done
}

# The service ---------------------------------------------------------------------------------

decide_on_service() {
    [ "$service" = ask ] || return 0
    service=no
    if [ -t 0 ]; then
        printf 'Start qm at login? [y/N] '
        read -r answer || answer=no
        case $answer in [yY]*) service=yes ;; esac
    fi
}

systemd_unit() { printf '%s' "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/qm.service"; }
launchd_agent() { printf '%s' "$HOME/Library/LaunchAgents/local.qm.daemon.plist"; }

fill_in() { sed "s|@QM@|$prefix/bin/qm|g" "$1"; }

install_service() {
    [ "$service" = yes ] || return 0
    if [ "$(uname -s)" = Darwin ]; then
        fill_in "$here/local.qm.daemon.plist" | write_file "$(launchd_agent)"
        launchctl bootstrap "gui/$(id -u)" "$(launchd_agent)"
    elif has systemctl; then
        fill_in "$here/qm.service" | write_file "$(systemd_unit)"
        systemctl --user daemon-reload
        systemctl --user enable --now qm.service
    else
        die "there is neither systemd nor launchd here: let what starts services run 'qm serve'"
    fi
}

remove_service() {
    if grep -qxF "$(systemd_unit)" "$record"; then
        systemctl --user disable --now qm.service || say "systemd could not stop qm.service"
    elif grep -qxF "$(launchd_agent)" "$record"; then
        launchctl bootout "gui/$(id -u)/local.qm.daemon" || say "launchd could not stop the agent"
    fi
}

# What the user asked for ---------------------------------------------------------------------

check_place() {
    if [ -e "$prefix/bin/qm" ] && [ "$(readlink "$prefix/bin/qm")" != "$home/venv/bin/qm" ]; then
        die "$prefix/bin/qm is there already and not ours; move it away or choose another --prefix"
    fi
    [ ! -d "$home" ] || [ -e "$record" ] || die "$home is there already and not ours"
}

announce() {
    python=$("$here/find-python.sh" -c 'import sys; print(sys.version.split()[0], sys.executable)')
    say "qm goes to $home, its command to $prefix/bin/qm"
    say "llama.cpp is built for $backend: $reason"
    say "  (--backend cpu, cuda, rocm, vulkan or metal chooses otherwise)"
    say "Python: $python"
}

closing_words() {
    say "installed. Try: qm --help"
    case :$PATH: in
        *:"$prefix/bin":*) ;;
        *) say "  $prefix/bin is not on your PATH; add it: export PATH=\"$prefix/bin:\$PATH\"" ;;
    esac
    case $service in
        yes) say "  qm runs as a service and starts at login" ;;
        no) say "  qm starts its daemon when it needs one; --service starts it at login" ;;
    esac
}

install() {
    choose_backend
    check_place
    announce
    if [ "$dry_run" = yes ]; then
        say "cmake arguments: $(cmake_arguments)${CMAKE_ARGS:+ $CMAKE_ARGS}"
        return
    fi
    decide_on_service
    say "installing; where llama.cpp must be compiled, this takes minutes"
    start_record
    install_environment
    install_command
    install_completions
    install_service
    closing_words
}

uninstall() {
    [ -e "$record" ] || die "qm is not installed in $prefix"
    models=$("$home/venv/bin/python" -c \
        'from qm.daemon.settings import load_settings; print(load_settings().home)') || models=""
    if [ "$dry_run" = yes ]; then
        say "would remove $home and:"
        cat "$record"
        return
    fi
    remove_service
    "$home/venv/bin/qm" shutdown >/dev/null 2>&1 || say "no daemon was running"
    paths=$(mktemp)
    cp "$record" "$paths"
    rm -rf "$home"
    take_back "$paths"
    rm -f "$paths"
    say "qm is removed; your models stay${models:+ in $models}"
}

parse_arguments "$@"
"$action"
