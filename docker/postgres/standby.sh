#!/bin/bash
# A standby: a base backup of the primary on an empty data folder, then the server. Its name
# (application_name) is what `pgshift` calls it.
set -euo pipefail

: "${PGDATA:?}" "${STANDBY_NAME:?}" "${PRIMARY_HOST:?}" "${REPLICATION_PASSWORD:?}"
port=${PRIMARY_PORT:-5432}
slot=${STANDBY_NAME//[^a-z0-9_]/_}

# The server refuses root; the image's own program changes the user.
if [[ $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    chown -R postgres: "$PGDATA"
    exec gosu postgres "$0" "$@"
fi

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    mkdir -p "$PGDATA"
    # What an earlier try left, its slot too.
    find "$PGDATA" -mindepth 1 -delete
    export PGPASSWORD=$REPLICATION_PASSWORD
    primary="host=$PRIMARY_HOST port=$port user=replicator application_name=$STANDBY_NAME"
    until pg_isready --quiet --host "$PRIMARY_HOST" --port "$port"; do sleep 1; done
    psql --quiet --no-psqlrc "$primary replication=true" \
        --command "DROP_REPLICATION_SLOT $slot WAIT" >/dev/null 2>&1 || true
    # --write-recovery-conf writes the connection, password and slot into postgresql.auto.conf.
    pg_basebackup --pgdata "$PGDATA" --dbname "$primary" --wal-method stream \
        --create-slot --slot "$slot" --write-recovery-conf --checkpoint fast
    chmod 0700 "$PGDATA"
    unset PGPASSWORD
fi

exec postgres "$@"
