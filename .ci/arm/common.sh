# shellcheck shell=bash
# Names shared by the scripts of this folder; sourced, never run.
set -euo pipefail

arm_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repo="$(cd "$arm_dir/../.." && pwd)"
work="${SELFHEAL_ARM_WORK:-$repo/build/arm}"
mkdir -p "$work"
work="$(cd "$work" && pwd)"

mirror="${SELFHEAL_ARM_MIRROR:-http://deb.debian.org/debian}"
sysroot_suite="${SELFHEAL_ARM_SYSROOT_SUITE:-bullseye}"
sysroot="$work/sysroot-$sysroot_suite"
root="$work/root-bookworm-arm64"
headers="$work/python3.11-headers"
venv="$work/venv"
wheels="$work/wheels"

readonly skipped=77
export arm_dir repo work mirror sysroot_suite sysroot root headers venv wheels skipped

say() { printf '== %s\n' "$*" >&2; }
skip() {
  printf 'SKIPPED: %s\n' "$*" >&2
  exit "$skipped"
}

# install_missing PACKAGES...: from Debian, and nothing that is there already.
install_missing() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  [[ $EUID -eq 0 ]] || skip "installing ${missing[*]} needs root"
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 || {
    cat "$work/apt.log" >&2
    exit 1
  }
}
