#!/usr/bin/env bash
# Looks at the crates below with cargo-deny (cargo install --locked cargo-deny), where it is
# installed: licences, sources, bans, duplicates; known vulnerabilities where the advisory database
# can be fetched. Without cargo-deny tests/dependencies.rs alone looks at them.
#
#   scripts/audit.sh                without the advisory database
#   scripts/audit.sh --advisories   with it: needs the network
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
checks=(bans licenses sources)
case ${1:-} in
    '') ;;
    --advisories) checks+=(advisories) ;;
    -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit
        ;;
    *)
        echo "audit.sh: unknown argument $1; see scripts/audit.sh --help" >&2
        exit 2
        ;;
esac
if ! cargo deny --version >/dev/null 2>&1; then
    echo "audit.sh: cargo-deny is not installed; tests/dependencies.rs looks at licences and sources" >&2
    exit 0
fi
# The configuration file is looked for from the folder of Cargo.toml.
exec cargo deny --locked --config scripts/deny.toml check --hide-inclusion-graph "${checks[@]}"
