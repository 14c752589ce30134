#!/bin/sh
# The literal long runs: real waits, many rounds. Hours; each test by name: sh tests/soak/run.sh -k trickle
# Needs what sh tests/run.sh system has built and fetched.
set -eu
cd "$(dirname "$0")/../.."
[ -n "${MTA_TEST_PEERS:-}" ] || MTA_TEST_PEERS=${XDG_CACHE_HOME:-/var/tmp}/mta-test-peers
export MTA_TEST_PEERS
exec unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$@"' sh \
    /usr/bin/python3 -B -m pytest -v -s --timeout 0 -c tests/system/pytest.ini tests/soak "$@"
