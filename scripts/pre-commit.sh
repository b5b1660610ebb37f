#!/bin/sh
# A pre-commit hook: lints the staged migrations and tries them out. See docs/ci.md.
#
#   ln -s ../../scripts/pre-commit.sh .git/hooks/pre-commit
#
# PGSHIFT             the program [pgshift]
# PGSHIFT_MIGRATIONS  folder of the migrations, from the top of the repository [migrations]
# PGSHIFT_PRE_COMMIT  `lint` leaves the trial out [check]
set -eu

cd "$(git rev-parse --show-toplevel)"
pgshift=${PGSHIFT:-pgshift}
folder=${PGSHIFT_MIGRATIONS:-migrations}

# Names with spaces stay whole: one a line.
staged=$(git diff --cached --name-only --diff-filter=AMR -- "$folder" | grep '\.sql$' || true)
[ -n "$staged" ] || exit 0

old_ifs=$IFS
IFS='
'
# shellcheck disable=SC2086 # split at line ends
set -- $staged
IFS=$old_ifs

set -- --migrations "$folder" "$@"
if [ "${PGSHIFT_PRE_COMMIT:-check}" = lint ]; then
    shift 2
    exec "$pgshift" lint "$@"
fi
# It lints first; so one command does.
exec "$pgshift" --quiet check "$@"
