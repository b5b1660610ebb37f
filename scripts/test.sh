#!/usr/bin/env bash
# Runs the tests against real servers: a primary and a standby of its own, gone afterwards.
#
#   scripts/test.sh                     everything
#   scripts/test.sh --pg 14             with this major (14 to 18), installed if need be
#   scripts/test.sh -- --test it        what follows -- goes to the test runner
#
# The runner is cargo-nextest where it is installed, else `cargo test`; the exit code is its own.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"

setup=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --pg)
            setup=(--pg "${2:?--pg needs a major version}")
            shift 2
            ;;
        --)
            shift
            break
            ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit
            ;;
        *)
            echo "test.sh: unknown argument $1; arguments of the runner go after --" >&2
            exit 2
            ;;
    esac
done

# Runs end and lose replies on purpose in some tests (src/fault.rs). Every command has the feature,
# so that there is one build.
feature=(--features fault-points)

# ${a[@]+…}: an empty array is an error under `set -u` in the bash of macOS.
PGSHIFT_PG_BIN=$(scripts/setup.sh ${setup[@]+"${setup[@]}"})
export PGSHIFT_PG_BIN

runner=(cargo test)
if cargo nextest --version >/dev/null 2>&1; then
    runner=(cargo nextest run)
fi
cargo build --quiet --tests --examples "${feature[@]}"
if [[ ${runner[1]} == nextest && $# == 0 ]]; then
    cargo test --doc "${feature[@]}" # nextest leaves out the examples in the documentation
fi
target=$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

tmp=$(mktemp -d)
cluster=
# shellcheck disable=SC2317 # the trap calls it
stop() {
    # The end of its input is what the cluster waits for; so it ends with this script, however
    # the script ends.
    { exec 3>&-; } 2>/dev/null || true
    if [[ -n $cluster ]]; then wait "$cluster" || true; fi
    rm -rf "$tmp"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkfifo "$tmp/in"
# No fsync: the tests kill processes, never the machine, and a slow disk must not fail them.
"$target/debug/examples/test-cluster" fsync=off <"$tmp/in" >"$tmp/env" &
cluster=$!
exec 3>"$tmp/in"
until [[ $(grep -c '^export ' "$tmp/env") == 2 ]]; do
    if ! kill -0 "$cluster" 2>/dev/null; then
        echo "test.sh: the test cluster did not start" >&2
        exit 1
    fi
    sleep 0.1
done
# shellcheck source=/dev/null
. "$tmp/env"

status=0
"${runner[@]}" "${feature[@]}" "$@" 3>&- || status=$?
exit "$status"
