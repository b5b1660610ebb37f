#!/usr/bin/env bash
# Runs `pgshift demo`, with everything that it needs: installs the PostgreSQL server programs and
# builds pgshift if they are missing. Arguments go to `pgshift demo`.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PGSHIFT_PG_BIN=$("$repo/scripts/setup.sh" --no-pgbouncer)
export PGSHIFT_PG_BIN

pgshift=${CARGO_TARGET_DIR:-$repo/target}/release/pgshift
if command -v cargo >/dev/null 2>&1; then
    # Does nothing where the build is up to date.
    (cd "$repo" && cargo build --release --locked --bin pgshift)
elif [[ ! -x $pgshift ]]; then
    echo "demo.sh: no Rust toolchain here, and no $pgshift" >&2
    exit 1
fi
exec "$pgshift" demo "$@"
