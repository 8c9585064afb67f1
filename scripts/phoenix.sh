#!/usr/bin/env bash
# Finds Arize Phoenix, and fetches it from PyPI (0.9 GB) where there is none.
#
#   . scripts/phoenix.sh             the functions, for other scripts, and those of scripts/postgres.sh
#   scripts/phoenix.sh provide       prints the folder of its Python packages, after fetching them if there are none

# shellcheck source=scripts/postgres.sh
. "$(dirname "${BASH_SOURCE[0]}")/postgres.sh"

PHOENIX_PACKAGE=arize-phoenix==20.26.1

# Where package $1 of PyPI is, with all that it needs.
pypi_folder() { echo "$(pg_cache)/$1"; }

# Installs package $1 into folder $2, with all that it needs.
pypi_into() {
  # An environment has a pip even where the Python that makes it has none. Most of what is installed is never imported,
  # and so need not be compiled.
  python3 -m venv "$2/venv" >&2 && "$2/venv/bin/python" -m pip install -q --target "$2" --no-compile --only-binary :all: \
    --no-cache-dir --disable-pip-version-check "$1" >&2 && rm -rf "$2/venv"
}

# Installs package $1 where it is not there yet.
pypi_provide() {
  if [ ! -d "$(pypi_folder "$1")" ]; then
    mkdir -p "$(pg_cache)" && pg_fetch_into "$(pypi_folder "$1")" pypi_into "$1"
  fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  case "${1:-}" in
    provide) pypi_provide "$PHOENIX_PACKAGE" && pypi_folder "$PHOENIX_PACKAGE" ;;
    *)
      say "usage: scripts/phoenix.sh provide"
      exit 2
      ;;
  esac
fi
