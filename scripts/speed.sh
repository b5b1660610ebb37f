#!/usr/bin/env bash
# How long commands take that people wait for: start-up, `plan` with 500 applied migrations and
# 5,000 tables, and `lint` of 5,000 files. On a server and in a folder of its own; prints a Markdown
# table of medians and the size of the binary. What is slow on a busy machine says nothing of the
# program: the CPU time is beside it.
#
#   scripts/speed.sh                      7 runs of each
#   scripts/speed.sh --runs 21
#   scripts/speed.sh --tables 500 --files 500 --applied 50
#
# PGSHIFT=path takes that binary instead of building one. The exit code is 1 where a median is above
# its bar.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=7 tables=5000 files=5000 applied=500
while [[ $# -gt 0 ]]; do
    case $1 in
        --runs) runs=${2:?} && shift ;;
        --tables) tables=${2:?} && shift ;;
        --files) files=${2:?} && shift ;;
        --applied) applied=${2:?} && shift ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        *) echo "speed: unknown argument $1; see scripts/speed.sh --help" >&2 && exit 2 ;;
    esac
    shift
done

bin=$("$repo/scripts/setup.sh" --no-pgbouncer)
pgshift=${PGSHIFT:-}
if [[ -z $pgshift ]]; then
    (cd "$repo" && cargo build --release --locked --bin pgshift >&2)
    pgshift=${CARGO_TARGET_DIR:-$repo/target}/release/pgshift
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/pgshift-speed.XXXXXX")
chmod 755 "$work"
mkdir "$work/server"
# The server refuses root.
server=()
if [[ $(id -u) == 0 ]]; then
    user=postgres
    id postgres >/dev/null 2>&1 || user=nobody
    server=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
    chown "$user" "$work/server"
fi
# shellcheck disable=SC2317  # the trap calls it
stop() {
    (cd "$work/server" && "${server[@]}" "$bin/pg_ctl" -D "$work/server/data" -m immediate -w stop) >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT

cd "$work/server"
port=$((20000 + RANDOM % 20000))
"${server[@]}" "$bin/initdb" -D "$work/server/data" -U app -A trust -E UTF8 --locale=C --no-sync >/dev/null
cat >>"$work/server/data/postgresql.conf" <<CONF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_locks_per_transaction = 1000
CONF
"${server[@]}" "$bin/pg_ctl" -D "$work/server/data" -w -l "$work/server/log" start >/dev/null
cd "$work"
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=app PGDATABASE=postgres
export DATABASE_URL="postgres://app@127.0.0.1:$port/postgres"
psql=("$bin/psql")
[[ -x ${psql[0]} ]] || psql=(psql)

# Tables with a key, an index, a CHECK and a foreign key to the one before.
"${psql[@]}" -X -q -v ON_ERROR_STOP=1 <<SQL
SET client_min_messages = warning;
DO \$\$
BEGIN
    FOR n IN 1..$tables LOOP
        EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, other bigint, total numeric(10,2)
            NOT NULL DEFAULT 0 CHECK (total >= 0), note text)', n);
        EXECUTE format('CREATE INDEX ON t%s (other)', n);
        IF n > 1 THEN
            EXECUTE format('ALTER TABLE t%s ADD FOREIGN KEY (other) REFERENCES t%s', n, n - 1);
        END IF;
        IF n % 500 = 0 THEN COMMIT; END IF;
    END LOOP;
END \$\$;
INSERT INTO t1 SELECT n, NULL, n FROM generate_series(1, 20000) n;
ANALYZE t1;
SQL

mkdir migrations
for ((n = 1; n <= applied; n++)); do
    t=$((n % tables + 1))
    printf 'ALTER TABLE t%d ADD COLUMN c%d bigint;\nCREATE INDEX t%d_c%d ON t%d (c%d);\n' $t $n $t $n $t $n \
        >"$(printf 'migrations/%06d_column.sql' "$n")"
done
"$pgshift" init >/dev/null 2>&1
"$pgshift" baseline --yes "$(printf '%06d_column' "$applied")" >/dev/null
cat >migrations/900000_total_cents.sql <<'SQL'
-- pgshift: expand
ALTER TABLE t1 ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE t1 SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE t1 SET total = total_cents / 100.0;
-- pgshift: contract
ALTER TABLE t1 ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE t1 DROP COLUMN total;
SQL

# Files of a project that has grown for years: every sixth makes a table that the next ones change.
mkdir lint
for ((n = 1; n <= files; n++)); do
    t=$((n / 6))
    case $((n % 6)) in
        0) sql="CREATE TABLE t$t (id bigint PRIMARY KEY, other bigint, note text, at timestamptz NOT NULL);" ;;
        1) sql="ALTER TABLE t$t ADD COLUMN status text NOT NULL DEFAULT 'new';" ;;
        2) sql="CREATE INDEX t${t}_status ON t$t (status);" ;;
        3) sql="ALTER TABLE t$t ADD CONSTRAINT t${t}_other FOREIGN KEY (other) REFERENCES t$((t / 2)) (id);" ;;
        4) sql="UPDATE t$t SET status = 'old' WHERE at < now() - interval '1 year';" ;;
        *) sql="ALTER TABLE t$t ALTER COLUMN note TYPE varchar(200), ALTER COLUMN other SET NOT NULL;" ;;
    esac
    printf '%s\n' "$sql" >"$(printf 'lint/%06d_change.sql' "$n")"
done
mkdir one
for ((n = 1; n <= 2000; n++)); do
    printf 'CREATE INDEX big_%d ON big (c%d);\n' "$n" "$n"
done >one/000001_indexes.sql

slow=0
TIMEFORMAT='%R %U %S'
# measure NAME BAR_MS COMMAND…: a row of the table; findings are no failure
measure() {
    local name=$1 bar=$2 n
    shift 2
    "$@" >out 2>err || [[ $? == 1 ]] || { cat err >&2 && exit 2; }
    for ((n = 0; n < runs; n++)); do
        { time "$@" >/dev/null 2>&1 || true; } 2>>times.all
    done
    local row
    row=$(awk -v bar="$bar" -v name="$name" '
        { wall[NR] = $1 * 1000; cpu[NR] = ($2 + $3) * 1000 }
        function median(v, n,  i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
            return v[int((n + 1) / 2)]
        }
        END {
            w = median(wall, NR); c = median(cpu, NR)
            printf "| %s | %d ms | %d ms | %d ms | %d ms | %s |", name, w, wall[1], c, bar, w <= bar ? "yes" : "no"
        }' times.all)
    rm times.all
    echo "$row"
    [[ $row == *"| no |" ]] && slow=1
    return 0
}

echo "| | median | fastest | CPU | bar | met |"
echo "|---|---|---|---|---|---|"
measure "start-up (\`--version\`)" 20 "$pgshift" --version
measure "\`plan\`, $applied applied migrations, $tables tables" 1000 "$pgshift" plan
measure "\`plan --format json\`" 1000 "$pgshift" plan --format json
measure "\`status\`" 1000 "$pgshift" status
measure "\`lint\` of $files files" 1000 "$pgshift" lint lint
measure "\`lint\` of one file with 2,000 indexes" 1000 "$pgshift" lint one
echo
echo "$runs runs each; PostgreSQL $("$bin/postgres" --version | awk '{ print $3 }'), $(nproc) CPUs; the binary has $(($(stat -c %s "$pgshift") / 1000000)) MB"
exit $slow
