# Shared by the scripts in tools/; to be sourced, with $root set to the repository's root.
# A clone in another folder finds what an earlier one compiled.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

# Prints a line about what happens now.
say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Runs as root: directly, or with sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root to run: $*"
  fi
}

# install_packages NAME...: installs those Debian packages that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${#missing[@]} packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_build_dependencies() {
  install_packages g++ cmake ninja-build ccache pkg-config libgrpc++-dev libgrpc-dev protobuf-compiler \
    protobuf-compiler-grpc libprotobuf-dev libabsl-dev libssl-dev prometheus-cpp-dev libcivetweb-dev libcli11-dev \
    libspdlog-dev nlohmann-json3-dev libpcre2-dev libicu-dev libhwy-dev libgtest-dev libgmock-dev libboost-context-dev \
    libzip-dev libcurl4-openssl-dev ca-certificates curl python3 python3-pip python3-venv
}

# Configures and builds a preset: build_preset NAME [TARGET...].
build_preset() {
  local preset=$1
  shift
  say "building the $preset preset"
  (cd "$root" && cmake --preset "$preset" >/dev/null)
  (cd "$root" && cmake --build --preset "$preset" ${1:+--target "$@"})
}
