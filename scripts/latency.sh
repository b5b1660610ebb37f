#!/usr/bin/env bash
# What a backfill costs the application: pgbench at a fixed rate on a server of its own, while
# `pgshift apply` with the default throttle is paused and resumed every few seconds, so that the
# two are compared on the same machine at the same time. Prints a Markdown table.
#
#   scripts/latency.sh                          three rounds, 1M rows, 300 transactions a second
#   scripts/latency.sh --rounds 1 --rows 300000 --rate 100 --clients 8
#   scripts/latency.sh --plain                  also one plain UPDATE, for comparison
#   scripts/latency.sh -- --duty 100%           options of `pgshift apply`
#
# A transaction is one statement: a read, an update or an insert by key. Times are from when the
# rate wanted it to start to its answer, so a server that stands still is counted in full. Where it
# may, pgbench runs at a real-time priority: it stands for clients elsewhere, which do not wait for a
# CPU of the server. The exit code is 1 where the p99 at work is above twice that at rest, or where a
# statement took longer than 100 ms at work and none did at rest.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=3 rows=1000000 rate=300 clients=8 segment=3 plain=
apply_options=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --rounds) rounds=${2:?} && shift ;;
        --rows) rows=${2:?} && shift ;;
        --rate) rate=${2:?} && shift ;;
        --clients) clients=${2:?} && shift ;;
        --segment) segment=${2:?} && shift ;;
        --plain) plain=1 ;;
        --) shift && apply_options=("$@") && break ;;
        -h | --help) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        *) echo "latency: unknown argument $1; see scripts/latency.sh --help" >&2 && exit 2 ;;
    esac
    shift
done

bin=$("$repo/scripts/setup.sh" --no-pgbouncer)
pgbench=$bin/pgbench
[[ -x $pgbench ]] || pgbench=$(command -v pgbench) || {
    echo "latency: no pgbench beside $bin (Debian: postgresql-contrib)" >&2
    exit 2
}
pgshift=${PGSHIFT:-}
if [[ -z $pgshift ]]; then
    (cd "$repo" && cargo build --release --locked --bin pgshift >&2)
    pgshift=${CARGO_TARGET_DIR:-$repo/target}/release/pgshift
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/pgshift-latency.XXXXXX")
chmod 755 "$work"
# The server refuses root.
server=()
if [[ $(id -u) == 0 ]]; then
    user=postgres
    id postgres >/dev/null 2>&1 || user=nobody
    server=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
    mkdir "$work/server"
    chown "$user" "$work/server"
else
    mkdir "$work/server"
fi
stop() {
    (cd "$work/server" && "${server[@]}" "$bin/pg_ctl" -D "$work/server/data" -m immediate -w stop) >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT

cd "$work/server"
port=$((20000 + RANDOM % 20000))
"${server[@]}" "$bin/initdb" -D "$work/server/data" -U app -A trust -E UTF8 --locale=C >/dev/null
cat >>"$work/server/data/postgresql.conf" <<EOF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 512MB
max_wal_size = 4GB
min_wal_size = 3GB
checkpoint_timeout = 15min
EOF
"${server[@]}" "$bin/pg_ctl" -D "$work/server/data" -w -l "$work/server/log" start >/dev/null

cd "$work"
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=app PGDATABASE=postgres
export DATABASE_URL="postgres://app@127.0.0.1:$port/postgres"
sql() { "${psql[@]}" -c "SET client_min_messages = warning" -c "$1" >/dev/null; }
psql=("$bin/psql")
[[ -x ${psql[0]} ]] || psql=(psql)
psql+=(-X -q -v ON_ERROR_STOP=1)

cat >read.sql <<EOF
\\set id random(1, $rows)
SELECT total, note FROM orders WHERE id = :id;
EOF
cat >update.sql <<EOF
\\set id random(1, $rows)
UPDATE orders SET total = total + 1, note = 'seen' WHERE id = :id;
EOF
cat >insert.sql <<EOF
\\set customer random(1, 100000)
INSERT INTO orders (customer, total, note) VALUES (:customer, 12.34, 'new');
EOF
mkdir migrations
cat >migrations/0001_total_cents.sql <<'EOF'
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
EOF

loader=()
chrt -f 1 true 2>/dev/null && loader=(chrt -f 1)
# load NAME: starts pgbench at the fixed rate; its log is NAME.*
load() {
    "${loader[@]}" "$pgbench" -n -M prepared -c "$clients" -j 1 -R "$rate" -T 3600 -l --log-prefix="$work/$1" \
        -f read.sql@6 -f update.sql@3 -f insert.sql@1 >"$work/$1.out" 2>&1 &
    loading=$!
}
# Ends it in order: what ends it after its time, too.
end_load() {
    kill -ALRM "$loading"
    wait "$loading" || true
}

now() { date +%s.%N; }
# segment NAME KIND FROM TO: a span of time in which pgbench's statements are of that kind
segment() { printf '%s %s %s\n' "$2" "$3" "$4" >>"$work/$1.segments"; }

# figures NAME KIND: seconds, statements, p50, p99, p99.9, max in ms, those above 100 ms
figures() {
    awk -v kind="$2" '
        FNR == NR { if ($1 == kind) { from[++n] = $2; to[n] = $3; all += $3 - $2 } next }
        { at = $5 + $6 / 1e6; for (i = 1; i <= n; i++) if (at >= from[i] && at < to[i]) print $3 / 1000 }
        END { printf "seconds %.1f\n", all }' "$work/$1.segments" "$work/$1".[0-9]* | sort -g | awk '
        $1 == "seconds" { seconds = $2; next }
        { v[++n] = $1; if ($1 > 100) slow++ }
        function at(p) { i = int(n * p); if (i < n * p) i++; return v[i < 1 ? 1 : i] }
        END { printf "%.1f %d %.1f %.1f %.1f %.1f %d\n", seconds, n, at(.5), at(.99), at(.999), v[n], slow + 0 }'
}
row() {
    local name=$1
    shift
    printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$name" "$@"
}

make_table() {
    sql "DROP SCHEMA IF EXISTS pgshift CASCADE"
    sql "DROP TABLE IF EXISTS orders"
    sql "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL,
             total numeric(12,2), note text, placed timestamptz NOT NULL DEFAULT now())"
    sql "INSERT INTO orders (customer, total, note)
         SELECT 1 + n % 100000, (n % 100000) / 7.0, 'order ' || n FROM generate_series(1, $rows) n"
    sql "CREATE INDEX ON orders (customer)"
    sql "VACUUM (ANALYZE, FREEZE) orders"
    recycle
}

# A server that has run for long has WAL segments to write anew; on a young one, whoever fills a
# segment first writes 16 MB of zeros, and the application would wait for that.
recycle() {
    local n
    for ((n = 0; n < 20; n++)); do
        sql "CREATE TABLE segment (); DROP TABLE segment"
        sql "SELECT pg_switch_wal()"
    done
    sql CHECKPOINT
    sleep 1
    sql CHECKPOINT
}

# A pause is taken up within a second; what is said in that second belongs to neither kind.
settle=1
# round NAME: the load beside an apply that is paused and resumed in turn
round() {
    local name=$1 from to applying
    load "$name"
    sleep 1
    from=$(now)
    sleep "$segment"
    segment "$name" rest "$from" "$(now)"
    from=$(now)
    "$pgshift" apply --yes "${apply_options[@]}" >"$work/$name.said" 2>&1 &
    applying=$!
    while true; do
        sleep "$segment"
        kill -0 "$applying" 2>/dev/null || break
        "$pgshift" pause 0001 >"$work/$name.pause" 2>&1 || break # it has come to its end
        segment "$name" work "$from" "$(now)"
        sleep "$settle"
        from=$(now)
        sleep "$segment"
        to=$(now)
        kill -0 "$applying" 2>/dev/null || break
        segment "$name" rest "$from" "$to"
        "$pgshift" resume 0001 >"$work/$name.resume" 2>&1
        sleep "$settle"
        from=$(now)
    done
    wait "$applying" || {
        cat "$work/$name.said" >&2
        exit 1
    }
    sleep "$settle"
    from=$(now)
    sleep "$segment"
    segment "$name" rest "$from" "$(now)"
    end_load
}

# plain NAME: one UPDATE of the whole table
plain() {
    local from
    sql "ALTER TABLE orders ADD COLUMN plain_cents bigint"
    load "$1"
    sleep 1
    from=$(now)
    sql "UPDATE orders SET plain_cents = round(total * 100)::bigint"
    segment "$1" work "$from" "$(now)"
    end_load
}

echo "| round | seconds | statements | p50 ms | p99 ms | p99.9 ms | max ms | > 100 ms |"
echo "|---|---|---|---|---|---|---|---|"
names=()
for ((n = 1; n <= rounds; n++)); do
    make_table
    round "round$n"
    names+=("round$n")
    for kind in rest work; do
        read -r -a f <<<"$(figures "round$n" "$kind")"
        row "$n, at $kind" "${f[@]}"
    done
    if [[ -n $plain ]]; then
        plain "plain$n"
        read -r -a f <<<"$(figures "plain$n" work)"
        row "$n, one plain UPDATE" "${f[@]}"
    fi
done
for name in "${names[@]}"; do
    cat "$work/$name.segments" >>"$work/all.segments"
    cat "$work/$name".[0-9]* >>"$work/all.0"
done
read -r -a rest <<<"$(figures all rest)"
row "all, at rest" "${rest[@]}"
read -r -a work_ <<<"$(figures all work)"
row "all, at work" "${work_[@]}"
ratio=$(awk -v a="${work_[3]}" -v b="${rest[3]}" 'BEGIN { printf "%.2f", a / (b > 0 ? b : 0.1) }')
echo
echo "p99 at work / at rest: $ratio"
if awk -v r="$ratio" 'BEGIN { exit !(r > 2) }' || [[ ${work_[6]} -gt 0 && ${rest[6]} == 0 ]]; then
    exit 1
fi
