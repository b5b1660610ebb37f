#!/bin/sh
# Writes the configuration from the environment, then becomes PgBouncer.
set -eu

: "${PRIMARY_HOST:?}" "${APP_PASSWORD:?}" "${STATS_PASSWORD:?}"
dir=${CONFIG_DIR:-/tmp/pgbouncer}
mkdir -p "$dir"
umask 077
# A quote within quotes is doubled (PgBouncer docs, "Authentication file format").
quoted() { printf '%s' "$1" | sed 's/"/""/g'; }
{
    printf '"app" "%s"\n' "$(quoted "$APP_PASSWORD")"
    printf '"stats" "%s"\n' "$(quoted "$STATS_PASSWORD")"
} >"$dir/userlist.txt"
cat >"$dir/pgbouncer.ini" <<INI
[databases]
shop = host=$PRIMARY_HOST port=${PRIMARY_PORT:-5432} dbname=shop

[pgbouncer]
listen_addr = ${LISTEN_ADDR:-0.0.0.0}
listen_port = ${LISTEN_PORT:-6432}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/userlist.txt
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
stats_users = stats
ignore_startup_parameters = extra_float_digits
INI
exec pgbouncer "$dir/pgbouncer.ini"
