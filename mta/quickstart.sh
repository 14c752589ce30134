#!/bin/sh
# Builds the MTA, starts it on localhost:587 (1587 when not root) and sends a first message the whole way, into a
# sandbox that stands for the Internet.      sh mta/quickstart.sh          again: takes seconds
#                                            sh mta/quickstart.sh stop     ends what it started
# Everything it makes is in ./mta-sandbox and ./build. MTA_PORT=n takes another port.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
box=$root/mta-sandbox
mtad=$root/build/release/bin/mtad
mtactl=$root/build/release/bin/mtactl
if [ "$(id -u)" = 0 ]; then port=${MTA_PORT:-587}; else port=${MTA_PORT:-1587}; fi

packages="gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libgnutls28-dev libc-ares-dev libyaml-dev
libjansson-dev libidn2-dev liblmdb-dev openssl ca-certificates python3 python3-dnslib python3-dkim python3-aiosmtpd"

step() { printf '\n%s\n' "== $*"; }
stop_with() {
    echo "$*" >&2
    exit 1
}

# running NAME: is the program whose pid is in $box/NAME.pid alive, and ours?
running() {
    [ -s "$box/$1.pid" ] && tr '\0' '\n' <"/proc/$(cat "$box/$1.pid")/cmdline" 2>/dev/null | grep -qF "$box"
}
end() {
    running "$1" || return 0
    pid=$(cat "$box/$1.pid")
    kill "$pid"
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 350 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    rm -f "$box/$1.pid"
    echo "   $1 has ended"
}
port_is_free() { # port_is_free PORT [udp]
    /usr/bin/python3 - "$@" <<'PYTHON'
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2:] else socket.SOCK_STREAM
with socket.socket(socket.AF_INET, kind) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0 if sys.argv[2:] else 1)
    try:
        probe.bind(("127.0.0.1", int(sys.argv[1])))
    except OSError:
        sys.exit(1)
PYTHON
}
free_port() { # free_port FIRST [udp]: the first free one from there on
    candidate=$1
    while ! port_is_free "$candidate" ${2:-}; do
        candidate=$((candidate + 1))
        [ "$candidate" -lt $(($1 + 100)) ] || stop_with "no free port from $1 on"
    done
    echo "$candidate"
}

if [ "${1:-}" = stop ]; then
    end mtad
    end internet
    exit 0
fi
[ $# = 0 ] || stop_with "usage: sh mta/quickstart.sh [stop]"

# ---- packages ----
lacking=
for package in $packages; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || lacking="$lacking $package"
done
if [ -n "$lacking" ]; then
    step "Installing$lacking"
    install="apt-get install -y --no-install-recommends$lacking"
    [ "$(id -u)" = 0 ] || stop_with "Some packages are missing. As root: $install"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    $install
fi

# ---- build ----
step "Building (build/release)"
cmake --preset release -DMTA_TESTS=OFF >"${TMPDIR:-/tmp}/mta-configure.$$" 2>&1 || {
    cat "${TMPDIR:-/tmp}/mta-configure.$$"
    exit 1
}
rm -f "${TMPDIR:-/tmp}/mta-configure.$$"
cmake --build --preset release --target mtad mtactl
"$mtad" --version

# ---- the sandbox ----
if [ ! -e "$box/mta.yaml" ]; then
    step "Making the sandbox in $box"
    mkdir -p "$box"
    (
        umask 077
        openssl genrsa -out "$box/dkim.pem" 2048 2>/dev/null
        echo "   dkim.pem: a new key that signs mail from sandbox.example"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=mx.internet.example \
            -keyout "$box/internet-key.pem" -out "$box/internet-cert.pem" 2>/dev/null
        echo "   internet-*.pem: the certificate of the sandbox's mail server"
    )
    dns_port=$(free_port 5353 udp)
    smtp_port=$(free_port 2525)
    # Root is given up once the port is open: for nobody, if that account can reach this folder at all.
    user=
    if [ "$(id -u)" = 0 ]; then
        user=root
        setpriv --reuid nobody --regid nogroup --clear-groups test -x "$box" 2>/dev/null && user=nobody
    fi
    sed -e "s/127\.0\.0\.1:587\"/127.0.0.1:$port\"/" -e "s/127\.0\.0\.1:5353/127.0.0.1:$dns_port/" \
        -e "s/port: 2525/port: $smtp_port/" ${user:+-e "s/^hostname:.*/&\nuser: $user/"} \
        config/quickstart.yaml >"$box/mta.yaml.new"
    echo "$dns_port $smtp_port" >"$box/ports"
    [ "$user" != nobody ] || chown -R nobody:nogroup "$box"
    mv "$box/mta.yaml.new" "$box/mta.yaml"
    echo "   mta.yaml: the configuration (from config/quickstart.yaml)${user:+, runs as $user}"
fi
port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\)"\].*IP:PORT.*/\1/p' "$box/mta.yaml")
[ -n "$port" ] || stop_with "mta-sandbox/mta.yaml names no port of 127.0.0.1 any more"

if grep -q '^dns:' "$box/mta.yaml" && ! running internet; then
    step "Starting the sandbox's Internet"
    read -r dns_port smtp_port <"$box/ports"
    port_is_free "$dns_port" udp && port_is_free "$smtp_port" ||
        stop_with "Port $dns_port or $smtp_port is taken meanwhile. Remove $box and start again."
    as=
    [ "$(stat -c %U "$box")" = "$(id -un)" ] || as="setpriv --reuid nobody --regid nogroup --clear-groups"
    $as setsid /usr/bin/python3 -B mta/sandbox/internet.py "$box" "$dns_port" "$smtp_port" \
        >"$box/internet.log" 2>&1 </dev/null &
    echo $! >"$box/internet.pid"
    tries=0
    until grep -q '^DNS on' "$box/internet.log"; do
        running internet && [ "$tries" -lt 100 ] || stop_with "$(cat "$box/internet.log")"
        sleep 0.1
        tries=$((tries + 1))
    done
    echo "   $(cat "$box/internet.log")"
fi

# ---- mtad ----
if running mtad && [ "$mtad" -nt "$box/mtad.pid" ]; then
    step "mtad was built anew: ending the old one"
    end mtad
fi
if running mtad; then
    step "mtad runs already (pid $(cat "$box/mtad.pid"), localhost:$port)"
else
    step "Starting mtad on localhost:$port"
    port_is_free "$port" || stop_with "Port $port of this machine is taken by another program; it is left alone.
Take another one:   rm -r mta-sandbox; MTA_PORT=2587 sh mta/quickstart.sh"
    "$mtad" --config "$box/mta.yaml" --check
    setsid "$mtad" --config "$box/mta.yaml" >"$box/mtad.out" 2>&1 </dev/null &
    echo $! >"$box/mtad.pid"
    tries=0
    until "$mtactl" --config "$box/mta.yaml" status >/dev/null 2>&1; do
        running mtad && [ "$tries" -lt 100 ] || stop_with "mtad did not start: $(cat "$box/mtad.out")"
        sleep 0.1
        tries=$((tries + 1))
    done
    echo "   pid $(cat "$box/mtad.pid")"
fi

if ! grep -q '^dns:' "$box/mta.yaml"; then
    step "The sandbox is switched off in mta-sandbox/mta.yaml: no test message is sent into the real Internet."
    exit 0
fi
step "A message on its way (events from mta-sandbox/mta.log)"
/usr/bin/python3 -B mta/sandbox/first_message.py "$box" "$port"

cat <<TEXT

== It works, and mtad goes on running. What to try:

Send your own (any recipient: in the sandbox all mail ends in mta-sandbox/mailbox):
   printf 'From: you@sandbox.example\nTo: a@b.example\nSubject: Hi\n\nHello\n' |
       curl -sS smtp://127.0.0.1:$port --mail-from you@sandbox.example --mail-rcpt a@b.example --crlf -T -
   later@b.example is greylisted, refuse@b.example comes back as a bounce, a@nowhere.example has no such domain.
   Applications: SMTP server 127.0.0.1, port $port, no password, no encryption.

Look:
   M="$mtactl --config $box/mta.yaml"
   \$M status;   \$M list;   \$M show ID;   \$M --json list;   tail -f $box/mta.log

Stop:       sh mta/quickstart.sh stop
Again:      sh mta/quickstart.sh              From scratch: stop, then rm -r mta-sandbox

From the sandbox to the real Internet: in mta-sandbox/mta.yaml remove the lines from ">>> SANDBOX ONLY" to "<<<", then
   \$M reload
Mail then goes to the real servers on port 25, which home and many cloud networks block. Receivers will want hostname to
resolve to your address and back, and the DKIM key and SPF of your own domain in DNS.

For good: start from config/example.yaml.
   adduser --system --group mta;  install -d -o mta -g mta /var/lib/mta;  install -d /etc/mta
   install build/release/bin/mtad build/release/bin/mtactl /usr/local/sbin/;  cp config/example.yaml /etc/mta/mta.yaml
   then let your service manager run "/usr/local/sbin/mtad" (it stays in the foreground; SIGHUP reloads, SIGTERM ends).
TEXT
