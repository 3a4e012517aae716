# Sourced by the other scripts: makes a virtual environment with the tested set of packages, once.
#
#   extras=[test] . scripts/environment.sh     sets $venv: .venv, or ROBOFUSE_VENV
# The caller is in the repository's root and has set -euo pipefail.
unset PYTHONPATH # what lies there would hide that something is missing here
venv="${ROBOFUSE_VENV:-.venv}"
extras="${extras:-}"

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# apt_install PACKAGE...: installs if that is possible without a password, else says what to type.
updated=""
apt_install() {
  local as_root=()
  if ! command -v apt-get >/dev/null; then
    echo "No apt-get here. With your package manager, install what Debian calls: $*"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "To install what is missing: sudo apt-get install $*"
      return 1
    fi
    as_root=(sudo)
  fi
  if [ -z "$updated" ]; then # a fresh image knows no packages until it is told to look
    ${as_root[@]+"${as_root[@]}"} apt-get update -qq || true
    updated=yes
  fi
  echo "Installing system packages: $*"
  if ! ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null; then
    echo "That failed. To try by hand: ${as_root[*]+"${as_root[*]} "}apt-get install $*"
    return 1
  fi
}

# Prints the first Python that runs and is new enough. It is started, not just looked
# up: a version manager may put commands on PATH that only say "not installed".
find_python() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  local python
  python="$(find_python)" || fail "no Python 3.11 or newer found (looked for python3.13, python3.12, python3.11, python3)"
  # Debian leaves these two out of its base Python.
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python has no venv module."
    apt_install "$python-venv" || fail "$python cannot make virtual environments; see the line above"
  fi
  if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
    fail "$venv is there and no virtual environment; set ROBOFUSE_VENV to another folder"
  fi
  say "Making $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
}

# OpenCV's wheel links against libGL and GLib, which a bare machine lacks.
need_opencv() {
  if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    echo "OpenCV misses system libraries: $("$venv/bin/python" -c 'import cv2' 2>&1 | tail -n 1)"
    apt_install libgl1 libglib2.0-0 || fail "OpenCV cannot be imported without them"
    "$venv/bin/python" -c 'import cv2' || fail "OpenCV still cannot be imported"
  fi
}

# The gl renderer draws through OSMesa or EGL. It is optional: without it its tests are skipped.
offer_gl() {
  local load='import ctypes, sys; ctypes.CDLL(sys.argv[1])' library
  for library in libOSMesa.so.8 libOSMesa.so.6 libEGL.so.1; do
    if "$venv/bin/python" -c "$load" "$library" 2>/dev/null; then return; fi
  done
  echo "Neither OSMesa nor EGL is installed; the gl renderer needs one of them."
  # Mesa 25.1 dropped OSMesa, and newer distributions with it; EGL draws in software there.
  apt_install libosmesa6 libegl1 || apt_install libegl1 libegl-mesa0 libgl1 ||
    echo "Going on without the gl renderer: warp draws, more slowly, and the tests of gl are skipped."
}

stamp="$(cat pyproject.toml constraints.txt | cksum) $PWD $extras"
if ! "$venv/bin/python" -c '' 2>/dev/null; then make_venv; fi
if [ "$(cat "$venv/robofuse.stamp" 2>/dev/null || true)" != "$stamp" ]; then
  say "Installing robofuse and the packages in constraints.txt into $venv"
  if ! command -v nvidia-smi >/dev/null && [ -z "${PIP_EXTRA_INDEX_URL:-}" ]; then
    echo "No NVIDIA GPU found. PyPI's torch brings gigabytes of CUDA all the same; to get the small CPU build,"
    echo "set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu first."
  fi
  "$venv/bin/python" -m pip install --disable-pip-version-check -e ".$extras" -c constraints.txt
  say "Checking system libraries"
  need_opencv
  offer_gl
  echo "$stamp" >"$venv/robofuse.stamp"
else
  say "$venv is up to date"
fi
