#!/usr/bin/env bash
# Backfills side by side on a private throw-away server: one plain UPDATE, pgshift with each
# strategy, and models of what is done instead. Every contender has one turn a round on a fresh copy
# of the table, the order changes from round to round, and every turn's table is checked. Writes
# docs/benchmarks/results.md, speed.svg and latency.svg.
#
#   scripts/bench.sh                      every table, 5 rounds, 300,000 rows: some 20 minutes
#   scripts/bench.sh --quick              three tables, 3 rounds, 150,000 rows: some 5 minutes
#   scripts/bench.sh --rows N --rounds N --tables int0,uuid --only ctid-5k,auto
#   scripts/bench.sh --memory             pgshift's memory at 1M and 10M rows: memory.md
#   scripts/bench.sh --pg 17              on this major (14 to 18), installed if need be
#   scripts/bench.sh --out DIR            the pages go elsewhere
#   scripts/bench.sh --render FILE        writes the pages of an earlier run's figures again
#
# PGSHIFT=FILE measures that binary in place of a fresh build. The exit code is 1 where a table was
# wrong afterwards, 2 where the benchmark could not be run; figures never fail it.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"

setup=() arguments=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --pg)
            setup=(--pg "${2:?--pg needs a major version}")
            shift
            ;;
        -h | --help) sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
if [[ -n ${PGSHIFT:-} ]]; then arguments+=(--pgshift "$PGSHIFT"); fi

PGSHIFT_PG_BIN=$(scripts/setup.sh --no-pgbouncer ${setup[@]+"${setup[@]}"})
export PGSHIFT_PG_BIN
# The program itself is run, not `cargo bench`, which has an exit code of its own.
program=$(cargo bench --quiet --locked --bench backfill --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*\/backfill-[^"]*\)".*/\1/p') || exit 2
exec "$program" ${arguments[@]+"${arguments[@]}"}
