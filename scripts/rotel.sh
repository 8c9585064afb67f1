#!/usr/bin/env bash
# Finds the OpenTelemetry collector rotel, fetches it where there is none, and runs one that prints what it is sent.
#
#   . scripts/rotel.sh               the functions, for other scripts, and those of scripts/postgres.sh
#   scripts/rotel.sh provide         prints the program's path, after fetching it if there is none
#
# A script calls work_dir, rotel_provide and rotel_start, and rotel_stop before it reads the log. The function that it
# gives to at_end calls rotel_stop as well, ahead of work_dir_end.

# shellcheck source=scripts/postgres.sh
. "$(dirname "${BASH_SOURCE[0]}")/postgres.sh"

ROTEL_PYPI_VERSION=0.0.1a15

# ---- finding the program

# The PyPI package exists for several versions of Python. Its program is linked to the shared library of that version.
# Prints the Pythons that there is a package for, the preferred first: the program, a space, the version.
rotel_pythons() {
  local python version
  for python in python3 /usr/bin/python3 python3.11 python3.12 python3.13 python3.10; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$version" in
      3.10 | 3.11 | 3.12 | 3.13) echo "$python $version" ;;
    esac
  done
}

# $1: the version of Python.
rotel_folder() { echo "$(pg_cache)/rotel-$ROTEL_PYPI_VERSION-python$1"; }

# The library that belongs to a Python may be where the system does not look for it.
rotel_library() { "$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")' 2>/dev/null || true; }

rotel_runs() { [ -x "$ROTEL_BIN" ] && LD_LIBRARY_PATH=${ROTEL_LIBRARY:-} "$ROTEL_BIN" --version >/dev/null 2>&1; }

# Sets ROTEL_BIN, and ROTEL_LIBRARY to the folder of the library it needs. A ROTEL_BIN that is set already is kept.
rotel_find() {
  local python version
  if [ -n "${ROTEL_BIN:-}" ]; then
    if rotel_runs; then return; fi
    say "ROTEL_BIN=$ROTEL_BIN can't be used: it does not run here."
    return 1
  fi
  # The cache can lie in a folder that everybody may write to: only what this user put there is run.
  if [ ! -O "$(pg_cache)" ] || [ -L "$(pg_cache)" ]; then return 1; fi
  while read -r python version; do
    ROTEL_BIN=$(rotel_folder "$version")/rotel/rotel-agent
    ROTEL_LIBRARY=$(rotel_library "$python")
    if rotel_runs; then
      export ROTEL_BIN ROTEL_LIBRARY
      return
    fi
  done < <(rotel_pythons)
  ROTEL_BIN='' ROTEL_LIBRARY=''
  return 1
}

# ---- fetching it

rotel_apt() {
  pg_am_root && command -v apt-get >/dev/null || return 1
  say "rotel: installing $* with apt-get ..."
  apt-get update -qq >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" >&2
}

rotel_has_pip() { "$1" -m pip --version >/dev/null 2>&1; }

# Those of rotel_pythons that can fetch a package, one for each version.
rotel_fetchers() {
  local python version had=''
  while read -r python version; do
    if [[ " $had " != *" $version "* ]] &&
      { rotel_has_pip "$python" || "$python" -c 'import ensurepip, venv' 2>/dev/null; }; then
      echo "$python $version"
      had="$had $version"
    fi
  done < <(rotel_pythons)
}

# $1: the Python; $2: the folder.
rotel_install() {
  local python=$1
  if ! rotel_has_pip "$python"; then
    # An environment has a pip even where the Python that makes it has none.
    "$python" -m venv "$2/venv" >&2 || return 1
    python=$2/venv/bin/python
  fi
  PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --target "$2" --no-deps --only-binary :all: --no-cache-dir \
    --disable-pip-version-check "rotel==$ROTEL_PYPI_VERSION" >&2 &&
    rm -rf "$2/venv"
}

rotel_fetch() {
  local python version folder
  if [ -z "$(rotel_fetchers)" ]; then rotel_apt python3-venv || return 1; fi
  # Through a descriptor of its own: the installers must not read what is meant for the loop.
  while read -r python version <&3; do
    folder=$(rotel_folder "$version")
    if [ ! -x "$folder/rotel/rotel-agent" ]; then
      say "rotel: none here; fetching the PyPI package (10 MB) for Python $version into $(pg_cache) ..."
      pg_fetch_into "$folder" rotel_install "$python" || continue
    fi
    # Debian and Ubuntu have the library in a package of its own.
    if rotel_find || { rotel_apt "libpython$version" && rotel_find; }; then return; fi
  done 3< <(rotel_fetchers)
  return 1
}

rotel_lacking() {
  cat >&2 <<MESSAGE

The collector rotel is lacking: it was not found on this machine and could not be fetched.
Any one of these helps:
  - install Python 3.10 to 3.13 with pip or venv and with its shared library, which is not in every build of Python:
                      Debian 12        sudo apt-get install python3-venv libpython3.11
                      Ubuntu 24.04     sudo apt-get install python3-venv libpython3.12
  - if it is somewhere else, set ROTEL_BIN to the program and ROTEL_LIBRARY to the folder of the libpython it needs
MESSAGE
}

# Sets ROTEL_BIN and ROTEL_LIBRARY, after fetching the program if there is none.
rotel_provide() {
  if ! rotel_find; then
    [ -z "${ROTEL_BIN:-}" ] || return 1
    if ! rotel_fetch; then
      rotel_lacking
      return 1
    fi
  fi
  say "rotel: $ROTEL_BIN"
}

# ---- a throwaway collector

# The process that runs, if any.
ROTEL_PID=''

# Becomes the collector. The empty environment is because it would take settings from there, too.
# $1 and $2: where it listens for gRPC and for HTTP.
rotel_serve() {
  set -- env -i LD_LIBRARY_PATH="${ROTEL_LIBRARY:-}" NO_COLOR=1 RUST_LOG=info "$ROTEL_BIN" start --exporter blackhole \
    --debug-log traces --debug-log-verbosity detailed --otlp-grpc-endpoint "$1" --otlp-http-endpoint "$2"
  # So that it goes with a script that is killed and does not get to its EXIT trap.
  if setpriv --pdeathsig TERM true >/dev/null 2>&1; then set -- setpriv --pdeathsig TERM "$@"; fi
  exec "$@"
}

# It says so once both of its ports are bound.
rotel_has_started() { grep -q 'Z  INFO Starting Rotel' "$WORK/rotel.log"; }

# Starts a collector that prints each span to the file rotel.log in WORK, which begins anew, and sets ROTEL_GRPC and
# ROTEL_HTTP, each host:port.
rotel_start() {
  local log=$WORK/rotel.log grpc http tries attempt
  if [ -n "$ROTEL_PID" ]; then
    say "rotel: one runs already."
    return 1
  fi
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    # Below the ports that systems hand out for outgoing connections. One is even and the other odd.
    grpc=127.0.0.1:$((15000 + RANDOM % 8500 * 2))
    http=127.0.0.1:$((15001 + RANDOM % 8500 * 2))
    # Emptied here, or what an earlier one said would be read until the new process comes to it.
    : >"$log"
    rotel_serve "$grpc" "$http" >>"$log" 2>&1 </dev/null &
    ROTEL_PID=$!
    tries=0
    until rotel_has_started; do
      tries=$((tries + 1))
      if ! kill -0 "$ROTEL_PID" 2>/dev/null || [ "$tries" -gt 1200 ]; then break; fi
      sleep 0.05
    done
    if rotel_has_started; then
      export ROTEL_GRPC=$grpc ROTEL_HTTP=$http
      say "rotel: a throwaway collector runs at $ROTEL_GRPC (gRPC) and $ROTEL_HTTP (HTTP)"
      return 0
    fi
    rotel_end_process >/dev/null 2>&1 || true
    if ! grep -q 'unable to bind' "$log"; then break; fi
    say "rotel: port ${grpc#*:} or ${http#*:} is taken (attempt $attempt), trying others ..."
  done
  say "rotel: the collector did not start:"
  tail -n 20 "$log" >&2
  return 1
}

# Ends the collector and gives its exit code. It prints all that it has confirmed before it goes.
rotel_end_process() {
  local pid=$ROTEL_PID tries=0
  ROTEL_PID=''
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -eq 200 ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.05
  done
  wait "$pid"
}

# Stops the collector, if one runs, after which its log is whole. Fails if it had crashed or had to be killed.
rotel_stop() {
  local code=0
  [ -n "$ROTEL_PID" ] || return 0
  rotel_end_process || code=$?
  if [ "$code" -eq 0 ]; then return 0; fi
  say "rotel: the collector ended with code $code:"
  tail -n 20 "$WORK/rotel.log" >&2
  return 1
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  case "${1:-}" in
    provide) rotel_provide && echo "$ROTEL_BIN" ;;
    *)
      say "usage: scripts/rotel.sh provide"
      exit 2
      ;;
  esac
fi
