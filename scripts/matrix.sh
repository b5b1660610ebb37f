#!/usr/bin/env bash
# Runs all tests on several PostgreSQL majors and ends with a table.
#
#   scripts/matrix.sh                  14 15 16 17 18
#   scripts/matrix.sh 14 18            these
#   scripts/matrix.sh 14 18 -- ARGS    ARGS go to the test runner
#
# The exit code is 0 only if all passed.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
majors=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --)
            shift
            break
            ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit
            ;;
        [0-9]*) majors+=("$1") ;;
        *)
            echo "matrix.sh: $1 is not a major version" >&2
            exit 2
            ;;
    esac
    shift
done
if [[ ${#majors[@]} == 0 ]]; then majors=(14 15 16 17 18); fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
failed=0
rows=()
for major in "${majors[@]}"; do
    echo "== PostgreSQL $major"
    start=$SECONDS
    result=pass
    "$repo/scripts/test.sh" --pg "$major" -- "$@" 2>&1 | tee "$log" || result=FAIL
    [[ $result == pass ]] || failed=1
    # The last summary line, of nextest or of cargo test, without its colours.
    summary=$(sed $'s/\x1b\\[[0-9;]*m//g' "$log" |
        grep -E '^ *Summary \[|^test result:' | tail -n 1 | sed 's/^ *//' || true)
    rows+=("$(printf '%-5s  %-6s  %5ss  %s' "$major" "$result" $((SECONDS - start)) "${summary:-no test ran}")")
done

echo
printf '%-5s  %-6s  %6s  %s\n' major result time summary
printf '%s\n' "${rows[@]}"
exit "$failed"
