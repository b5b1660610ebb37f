#!/usr/bin/env bash
# Hostile files for the reader of migrations, the linter and the planner, for as long as is asked:
# tests/fuzz. A failing file is made smaller and printed with its seed.
#
#   scripts/fuzz.sh [--minutes M] [--seed N]     5 minutes, a seed by chance
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
minutes=5
while [[ $# -gt 0 ]]; do
    case $1 in
        --minutes)
            minutes=${2:?--minutes needs a number}
            shift 2
            ;;
        --seed)
            export PGSHIFT_TEST_SEED=${2:?--seed needs a number}
            shift 2
            ;;
        -h | --help)
            sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit
            ;;
        *)
            echo "fuzz.sh: unknown argument $1; see scripts/fuzz.sh --help" >&2
            exit 2
            ;;
    esac
done
export PGSHIFT_FUZZ_SECONDS=$((minutes * 60))
exec cargo test --features fault-points --test fuzz -- --nocapture read_linted_and_planned
