#!/bin/sh
# Applies the migration and takes it back, again and again, so that there is something to see.
set -eu

id=${MIGRATION:-20261123_orders_total_cents}
listen=${METRICS_LISTEN:-0.0.0.0:9187}
rest=${REST_SECONDS:-20}
rounds=${ROUNDS:-0} # 0: until it is stopped

# The shell passes a stop on; pgshift ends at the next chunk, and a later start goes on.
stop() {
    [ -z "${child:-}" ] || kill -TERM "$child" 2>/dev/null || true
    [ -z "${child:-}" ] || wait "$child" || true
    exit 0
}
trap stop TERM INT

run() {
    "$@" &
    child=$!
    wait "$child"
    child=
}

round=0
while [ "$rounds" = 0 ] || [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    run pgshift apply "$id" --metrics-listen "$listen" --duty "${DUTY:-0.3}"
    run sleep "$rest"
    run pgshift revert "$id" --yes --metrics-listen "$listen"
    run sleep "$rest"
done
