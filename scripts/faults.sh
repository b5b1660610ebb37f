#!/usr/bin/env bash
# Faults on purpose, at random, and what came of them: a table of fault × runs × resumed × reverted
# × wrong rows × lost events. The last two must be zero; the exit code is 1 where they are not.
#
#   scripts/faults.sh                        everything, for five minutes
#   scripts/faults.sh --seed 7 --minutes 60  the same chances again, for an hour
#   scripts/faults.sh --points               only aborts at the points of src/fault.rs
#   scripts/faults.sh --servers              only faults of servers, networks and processes
#   scripts/faults.sh --kind locks           only those of servers whose name in the table has this
#   scripts/faults.sh --model                only commands at random, against the model
#   scripts/faults.sh --pg 14                with this major (14 to 18)
#
# The servers are a primary and standbys of its own. What failed is told in full on stderr.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seed=$RANDOM$RANDOM minutes=5 only=
setup=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --seed) seed=${2:?--seed needs a number} && shift ;;
        --minutes) minutes=${2:?--minutes needs a number} && shift ;;
        --points | --servers | --model) only=${1#--} ;;
        --kind) only=kind PGSHIFT_FAULTS_KIND=${2:?--kind needs words} && shift ;;
        --pg) setup=(--pg "${2:?--pg needs a major version}") && shift ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        *) echo "faults.sh: unknown argument $1; see scripts/faults.sh --help" >&2 && exit 2 ;;
    esac
    shift
done

points=(at_every_point_of_every_example at_every_point_of_the_other_commands)
storm=(in_every_storm_nothing_is_lost)
servers=("${storm[@]}" a_full_disk_stops_the_run_and_a_resume_goes_on
    a_clock_that_steps_changes_nothing timeouts_of_the_role_end_nothing_of_a_run)
model=(lives_at_random_agree_with_the_model)
case $only in
    points) tests=("${points[@]}") ;;
    kind) tests=("${storm[@]}") ;;
    servers) tests=("${servers[@]}") ;;
    model) tests=("${model[@]}") ;;
    *) tests=("${points[@]}" "${servers[@]}" "${model[@]}") ;;
esac

table=$(mktemp)
trap 'rm -f "$table"' EXIT
trap 'exit 130' INT
export PGSHIFT_FAULTS_KIND=${PGSHIFT_FAULTS_KIND-} PGSHIFT_TEST_SEED=$seed PGSHIFT_FAULTS_MINUTES=$minutes PGSHIFT_FAULTS_TABLE=$table
echo "seed $seed, $minutes minutes" >&2

status=0
if cargo nextest --version >/dev/null 2>&1; then
    arguments=(--profile faults --test it --run-ignored all --no-fail-fast "${tests[@]}")
else
    arguments=(--test it -- --include-ignored "${tests[@]}")
fi
"$repo/scripts/test.sh" ${setup[@]+"${setup[@]}"} -- "${arguments[@]}" >&2 || status=1

# A kind that more than one test has is one row.
awk -F '\t' '
    { runs[$1] += $2; resumed[$1] += $3; reverted[$1] += $4; wrong[$1] += $5; lost[$1] += $6 }
    END {
        for (fault in runs)
            printf "| %s | %d | %d | %d | %d | %d |\n", fault, runs[fault], resumed[fault],
                reverted[fault], wrong[fault], lost[fault]
    }' "$table" | sort >"$table.rows"
echo "| fault | runs | resumed | reverted | wrong rows | lost events |"
echo "|---|---|---|---|---|---|"
cat "$table.rows"
awk -F '|' '$6 != 0 || $7 != 0 { bad = 1 } END { exit bad || NR == 0 }' "$table.rows" || status=1
rm -f "$table.rows"
exit "$status"
