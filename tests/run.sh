#!/bin/sh
# Runs the tests: sh tests/run.sh [lint] [unit] [fuzz] [system] [crash] [tidy]     (nothing named: all but tidy)
# On a bare Debian 12, as root. Installs what building and testing need, builds with sanitizers, runs,
# and ends with one line "N passed, N failed". tests/README.md tells what the parts are.
set -u
cd "$(dirname "$0")/.." || exit 2
root=$PWD
jobs=$(nproc)
results=$root/build/results
parts=${*:-lint unit fuzz system crash}
passed=0
failed=0

say() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - begun))"; }
begun=$(date +%s)

for part in $parts; do
    case $part in
    lint | unit | fuzz | system | crash | tidy) ;;
    *)
        echo "usage: sh tests/run.sh [lint] [unit] [fuzz] [system] [crash] [tidy]" >&2
        exit 2
        ;;
    esac
done
wants() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# ---- what is needed ----
# Only packages that start no service. Other vendors' servers are unpacked, not installed (fetch_peers.sh).
packages="gcc libc6-dev cmake ninja-build pkg-config git libuv1-dev libgnutls28-dev libc-ares-dev
libyaml-dev uthash-dev libjansson-dev libidn2-dev liblmdb-dev libmicrohttpd-dev libgsasl-dev
libcrypt-dev libcmocka-dev clang
libclang-rt-14-dev python3 python3-pytest python3-pytest-xdist python3-pytest-timeout python3-dkim python3-dnslib
python3-nacl python3-lmdb python3-prometheus-client swaks libnet-ssleay-perl libnet-dns-perl msmtp curl openssl s-nail
mutt git-email libmailtools-perl nodejs
gnutls-bin iproute2 procps strace libfaketime ca-certificates"
wants lint && packages="$packages clang-format cppcheck"
wants tidy && packages="$packages clang-tidy"

install_packages() {
    lacking=
    for package in $packages; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            lacking="$lacking $package"
    done
    [ -z "$lacking" ] && return 0
    if [ "$(id -u)" != 0 ]; then
        echo "tests/run.sh: not root, and these packages are missing:$lacking" >&2
        return 1
    fi
    say "installing$lacking"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq -y --no-install-recommends install $lacking >/dev/null
}

# build PRESET [TARGET...]; the whole where no target is named
build() {
    preset=$1
    shift
    say "building $preset"
    if cmake --preset "$preset" -DMTA_TESTS=ON >"$results/build-$preset.log" 2>&1 &&
        cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} >>"$results/build-$preset.log" 2>&1; then
        return 0
    fi
    tail -n 40 "$results/build-$preset.log"
    count "build of $preset" 0 1
    return 1
}

# count NAME PASSED FAILED
count() {
    echo "$1: $2 passed, $3 failed"
    passed=$((passed + $2))
    failed=$((failed + $3))
}

# count_report NAME FILE EXIT_CODE: from a JUnit file; a runner that wrote none, or ended badly without a
# failed test, is a failure itself.
count_report() {
    set -- "$1" $(/usr/bin/python3 - "$2" "$3" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
try:
    suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
    total, bad, skipped = (sum(int(suite.get(name) or 0) for suite in suites for name in names)
                           for names in (["tests"], ["failures", "errors"], ["skipped", "disabled"]))
except (OSError, tree.ParseError):
    total = bad = skipped = 0
if not bad and (int(sys.argv[2]) or total == skipped):
    bad, total = 1, total + 1
print(total - bad - skipped, bad)
PYTHON
    )
    count "$@"
}

# Everything that tests do stays in a network and a process namespace of its own, and ends with it.
pytest_in_namespace() {
    unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$@"' sh \
        /usr/bin/python3 -B -m pytest -q --timeout 300 --rootdir "$root/tests" -c "$root/tests/system/pytest.ini" "$@"
}

# run_pytest NAME ARGUMENT...
run_pytest() {
    name=$1
    shift
    rm -f "$results/$name.xml"
    pytest_in_namespace --junitxml "$results/$name.xml" "$@"
    count_report "$name" "$results/$name.xml" $?
}

# run_ctest NAME PRESET ARGUMENT...
run_ctest() {
    name=$1 preset=$2
    shift 2
    rm -f "$results/$name.xml"
    ctest --test-dir "build/$preset" --output-on-failure -j $((jobs * 2)) --output-junit "$results/$name.xml" "$@"
    count_report "$name" "$results/$name.xml" $?
}

# ---- the parts ----
# Two checks of a quarter of a minute: laid out by .clang-format (headers are partly laid out by hand), and cppcheck.
run_lint() {
    say "format"
    if find config queue dns tls mta tests -name '*.c' -print0 |
        xargs -0 -n 20 -P "$jobs" clang-format --dry-run -Werror; then
        count format 1 0
    else
        count format 0 1
    fi
    say "cppcheck"
    if cppcheck --enable=warning,performance,portability --inline-suppr --quiet --error-exitcode=1 -j "$jobs" \
        --std=c11 -I . -D_GNU_SOURCE -DMTA_VERSION='"0"' -DMTA_SOURCE_DIR='"."' config queue dns tls mta tests; then
        count cppcheck 1 0
    else
        count cppcheck 0 1
    fi
}

# clang-tidy takes some minutes for all, so it runs only when asked, and only over what changed (the file, its headers
# or .clang-tidy) since it last passed: build/tidy keeps the sums. One process a file: version 14 carries false
# alarms from one file into the next.
run_tidy() {
    if ! cmake --preset address -DMTA_TESTS=ON >"$results/tidy.log" 2>&1; then
        tail -n 40 "$results/tidy.log"
        count tidy 0 1
        return
    fi
    say "clang-tidy"
    mkdir -p build/tidy
    if find config queue dns tls mta -name '*.c' -print0 | xargs -0 -n 1 -P "$jobs" sh -c '
        sum=build/tidy/$(echo "$1" | tr / _)
        new=$({ gcc -std=c17 -E -CC -D_GNU_SOURCE -DMTA_VERSION=\"0\" -I. "$1" && cat .clang-tidy; } | sha256sum)
        [ "$new" = "$(cat "$sum" 2>/dev/null)" ] && exit 0
        clang-tidy -p build/address --quiet "$1" 2>/dev/null && echo "$new" >"$sum"' sh; then
        count tidy 1 0
    else
        count tidy 0 1
    fi
}

# The unit tests of what crosses threads run under the thread sanitizer too: of the queue those that keep its writer
# busy, not those of files and rows.
single='test_queue_(attempt|body|check|pages|params|record|repair|space)'
threaded='test_auth_exchange test_queue_ test_base_log test_net_ test_deliver_scheduler_threads test_dns_ test_control_metrics'

run_unit() {
    if build address; then
        say "unit tests (address and undefined sanitizers)"
        run_ctest unit address -E '^(queue_kill|queue_full|power_cut)$'
    fi
    targets=$(for prefix in $threaded; do ls tests/unit/"$prefix"*.c 2>/dev/null; done |
        sed 's|.*/||; s|\.c$||' | grep -vxE "$single")
    if [ -n "$targets" ] && build thread $targets; then
        say "unit tests (thread sanitizer)"
        run_ctest unit-thread thread -R "^($(echo $targets | tr ' ' '|'))\$"
    fi
    say "layers, limits, headers"
    run_pytest layers tests/check_layers.py
}

# Each target some seconds over its corpus; what it finds stays in build/fuzz/corpus.
run_fuzz() {
    targets=$(ls tests/fuzz/fuzz_*.c 2>/dev/null | sed 's|.*/||; s|\.c$||')
    if [ -z "$targets" ]; then
        count fuzz 0 1
        return
    fi
    build fuzz $targets || return
    say "fuzzing, ${MTA_FUZZ_SECONDS:-5} s each"
    mkdir -p build/fuzz/found build/fuzz/logs
    rm -f build/fuzz/logs/*
    for target in $targets; do echo "$target"; done | xargs -P "$jobs" -I TARGET sh -c '
        name=TARGET
        own=build/fuzz/corpus/$name
        seeds=tests/fuzz/corpus/${name#fuzz_}
        words=tests/fuzz/${name#fuzz_}.dict
        mkdir -p "$own"
        [ -d "$seeds" ] || seeds=
        [ -f "$words" ] && words="-dict=$words" || words=
        build/fuzz/bin/"$name" -max_total_time='"${MTA_FUZZ_SECONDS:-5}"' -timeout=10 -rss_limit_mb=2048 \
            -artifact_prefix=build/fuzz/found/"$name"- $words "$own" $seeds >build/fuzz/logs/"$name" 2>&1 &&
            touch build/fuzz/logs/"$name".passed'
    good=$(ls build/fuzz/logs/*.passed 2>/dev/null | wc -l)
    all=$(echo $targets | wc -w)
    for target in $targets; do
        [ -e "build/fuzz/logs/$target.passed" ] || tail -n 30 "build/fuzz/logs/$target"
    done
    count fuzz "$good" $((all - good))
}

build_daemon() {
    build address mtad mtactl mta-sendmail dkim_sign dsn_build shim_faults &&
        build release mtad mtactl mta-sendmail wall_clock && build thread mtad mtactl
}

run_system() {
    build_daemon || return
    say "system tests"
    run_pytest system -n 5 -m "not heavy and not crash" tests/system
    say "system tests under load"
    run_pytest load -m "heavy and not crash" tests/system
}

run_crash() {
    if build address; then
        say "crash tests of the queue alone"
        run_ctest crash-queue address -R '^(queue_kill|queue_full|power_cut)$'
    fi
    build_daemon || return
    say "crash tests"
    run_pytest crash -n 3 -rP -m crash tests/system # the counts of copies are part of the result
}

mkdir -p "$results"
if ! install_packages; then
    echo "tests/run.sh: could not install what is needed"
    echo "0 passed, 1 failed"
    exit 1
fi
if wants system || wants crash; then
    [ -n "${MTA_TEST_PEERS:-}" ] || MTA_TEST_PEERS=${XDG_CACHE_HOME:-/var/tmp}/mta-test-peers
    export MTA_TEST_PEERS
    sh tests/system/fetch_peers.sh "$MTA_TEST_PEERS" >/dev/null || count "fetching other vendors' servers" 0 1
fi

for part in lint unit fuzz system crash tidy; do
    wants $part && run_$part
done

say finished
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
