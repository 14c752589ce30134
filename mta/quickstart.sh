#!/bin/sh
# Builds mtad, starts it, and shows one message all the way into a sandbox that stands for the Internet.
#   sh mta/quickstart.sh         on a bare Debian 12; a second run takes seconds
#   sh mta/quickstart.sh stop    ends what it started
# As root mtad listens on localhost:587, otherwise on localhost:1587. Besides packages, everything made lies in
# build/ and mta-sandbox/ (MTA_SANDBOX=FOLDER: there instead). Removing mta-sandbox/ makes the next run a first one.
set -u
started_in=$PWD
cd "$(dirname "$0")/.." || exit 1
root=$(pwd -P)
box=${MTA_SANDBOX:-$root/mta-sandbox}
case $box in /*) ;; *) box=$started_in/$box ;; esac
config=$box/mta.yaml
mtad=$root/build/release/bin/mtad
mtactl=$root/build/release/bin/mtactl
python=/usr/bin/python3
begun=$(date +%s)

packages="gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libgnutls28-dev libc-ares-dev liblmdb-dev libyaml-dev
libidn2-dev libjansson-dev libmicrohttpd-dev libgsasl-dev libcrypt-dev uthash-dev libcmocka-dev openssl ca-certificates curl python3
python3-dkim python3-dnslib"

step() { printf '\n== %s\n' "$*"; }
tell() { printf '   %s\n' "$*"; }
give_up() {
    printf '\nquickstart: ' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

# A word as the shell reads it, for commands to copy.
word() { printf '%s' "$1" | sed 's|[^A-Za-z0-9_./:@%+=-]|\\&|g'; }

# ---- long work ----
# at_work LOG COMMAND...: a dot each second; the log is shown when it fails.
at_work() {
    log=$1
    shift
    printf '   '
    # Ends with this script, however that ends.
    (while kill -0 $$ 2>/dev/null; do
        printf .
        sleep 1
    done) &
    dots=$!
    "$@" >"$log" 2>&1 </dev/null
    code=$?
    kill "$dots" 2>/dev/null
    wait "$dots" 2>/dev/null
    if [ "$code" = 0 ]; then
        echo " done"
    else
        echo " failed"
        tail -n 30 "$log"
    fi
    return "$code"
}

# ---- programs that stay ----
# NAME.pid holds "pid start-time". A pid alone may meanwhile be another's; with its start time it is ours.
start_time() { # of a living process; nothing for a dead one, or one that nobody has fetched yet
    fields=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
    case $fields in Z* | "") return 0 ;; esac
    echo "$fields" | cut -d ' ' -f 20
}
running() { # running NAME -> $pid
    pid='' born=''
    [ -s "$box/$1.pid" ] && read -r pid born <"$box/$1.pid"
    [ -n "$pid" ] && [ -n "$born" ] && [ "$(start_time "$pid")" = "$born" ]
}
launch() { # launch NAME COMMAND...: apart from this terminal; what it says goes to NAME.out
    name=$1
    shift
    setsid "$@" >"$box/$name.out" 2>&1 </dev/null &
    echo "$! $(start_time $!)" >"$box/$name.pid"
}
end() { # end NAME
    if running "$1"; then
        kill "$pid" || give_up "$1 (pid $pid) cannot be ended by $(id -un)"
        waited=0
        while running "$1"; do
            waited=$((waited + 1))
            [ "$waited" -lt 400 ] || give_up "$1 (pid $pid) does not end"
            sleep 0.1
        done
        tell "$1 (pid $pid) has ended"
    fi
    rm -f "$box/$1.pid"
}
wait_for() { # wait_for NAME COMMAND...: until COMMAND says that NAME is ready
    name=$1
    shift
    waited=0
    until "$@" >/dev/null 2>&1; do
        running "$name" || give_up "$name did not start:" "$(cat "$box/$name.out")"
        waited=$((waited + 1))
        [ "$waited" -lt 200 ] || give_up "$name does not get ready; look into $box"
        sleep 0.05
    done
}
current() { # current NAME FILE...: it runs, and no FILE has changed since
    running "$1" || return 1
    name=$1
    shift
    for file in "$@"; do
        [ ! "$file" -nt "$box/$name.pid" ] || return 1
    done
}

port_is_free() { # port_is_free tcp|udp ADDRESS:PORT
    "$python" - "$1" "$2" <<'PYTHON'
import socket, sys
address, port = sys.argv[2].rsplit(":", 1)
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET, kind) as probe:
    if kind == socket.SOCK_STREAM:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address, int(port)))
    except OSError as error:
        sys.exit(f"   {sys.argv[2]} ({sys.argv[1]}): {error.strerror}")
PYTHON
}
free_port() { # free_port tcp|udp PORT...: the first free one
    kind=$1
    shift
    for candidate in "$@"; do
        port_is_free "$kind" "127.0.0.1:$candidate" && echo "$candidate" && return 0
    done
    return 1
}

# ---- stop, and what cannot go on ----
case ${1:-} in
'') ;;
stop)
    running mtad || running internet || tell "nothing is running"
    end mtad
    end internet
    exit 0
    ;;
*) give_up "usage: sh mta/quickstart.sh [stop]" ;;
esac
if [ -e "$box" ] && [ "$(stat -c %u "$box")" != "$(id -u)" ]; then
    give_up "$box belongs to $(stat -c %U "$box"): run as that user, or remove the folder."
fi
mkdir -p "$box" || give_up "$box cannot be made"

# ---- packages ----
lacking=
for package in $packages; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || lacking="$lacking $package"
done
if [ -n "$lacking" ]; then
    [ "$(id -u)" = 0 ] || give_up "these packages are missing, and only root can install them:" \
        "  apt-get install --no-install-recommends$lacking"
    step "Installing (a minute or two):$lacking"
    export DEBIAN_FRONTEND=noninteractive
    at_work "$box/update.log" apt-get -q update || tell "going on with the package lists that are there"
    # shellcheck disable=SC2086 # a list of words
    at_work "$box/install.log" apt-get -q -y --no-install-recommends install $lacking ||
        give_up "packages could not be installed; all of it is in $box/install.log"
fi

# ---- the sandbox folder: a configuration of its own, made once ----
# As whom mtad works when root starts it: never as root, unless only root can reach this folder.
choose_user() {
    user=nobody
    ! getent passwd mta >/dev/null || user=mta
    group=$(id -g "$user")
    chmod 755 "$box"
    setpriv --reuid "$user" --regid "$group" --clear-groups test -x "$box/." 2>/dev/null && return 0
    tell "mtad works as root here: $user cannot enter $box."
    tell "(A checkout in /opt or /srv would let it work as $user.)"
    user=root
}
write_config() {
    step "Making the sandbox $box"
    cp config/quickstart.yaml "$config.new" || give_up "$config cannot be written"
    if [ "$(id -u)" = 0 ]; then
        choose_user
        sed -i "s/^hostname:.*/&\n\n# As whom mtad works once its port is open.\nuser: $user/" "$config.new"
    else
        sed -i 's/127\.0\.0\.1:587\b/127.0.0.1:1587/' "$config.new"
    fi
    dns=$(free_port udp 5353 15353 25353) || give_up "no port is free for the sandbox's DNS server"
    smtp=$(free_port tcp 2525 12525 22525) || give_up "no port is free for the sandbox's mail server"
    sed -i -e "s/127\.0\.0\.1:5353/127.0.0.1:$dns/" -e "s/port: 2525/port: $smtp/" "$config.new"
    mv "$config.new" "$config"
    tell "mta.yaml     the configuration, from config/quickstart.yaml; change it as you like"
}
make_files() {
    user=$(sed -n 's/^user: *\([A-Za-z0-9_.-]*\).*/\1/p' "$config")
    [ "$(id -u)" = 0 ] && user=${user:-mta} || user=$(id -un)
    if [ ! -s "$box/dkim.pem" ]; then
        (umask 077 && openssl genrsa -out "$box/dkim.pem" 2048 2>/dev/null) || give_up "openssl made no DKIM key"
        tell "dkim.pem     a new key; signs what sandbox.example sends"
    fi
    if [ ! -s "$box/sandbox.pem" ]; then
        (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
            -subj /CN=mx.receiver.example -keyout "$box/sandbox.key" -out "$box/sandbox.crt" 2>/dev/null &&
            cat "$box/sandbox.key" "$box/sandbox.crt" >"$box/sandbox.pem") || give_up "openssl made no certificate"
        rm -f "$box/sandbox.key" "$box/sandbox.crt"
        tell "sandbox.pem  the certificate of the sandbox's mail server"
    fi
    echo "v=DKIM1; k=rsa; p=$(openssl rsa -in "$box/dkim.pem" -pubout -outform DER 2>/dev/null | base64 -w0)" \
        >"$box/dkim.txt"
    mkdir -p "$box/mailbox"
    : >>"$box/mta.log"
    [ "$(id -u)" != 0 ] || chown "$user:" "$box/dkim.pem" "$box/mta.log" "$box/mailbox" ||
        give_up "the files in $box cannot be given to $user"
}
read_ports() {
    address=$(sed -n 's/^ *-* *address: *\[* *"*\([0-9.]*:[0-9]*\).*/\1/p' "$config" | head -n 1)
    dns=$(sed -n '/^dns:/,/^[^ #]/s/^ *servers: *\["*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$config")
    smtp=$(sed -n '/^delivery:/,/^[^ #]/s/^ *port: *\([0-9]*\).*/\1/p' "$config")
    [ -n "$address" ] || give_up "$config: no \"address: [IP:PORT]\" found in it"
}
[ -s "$config" ] || write_config
make_files
read_ports
for port in "mtad tcp $address" ${dns:+"internet udp 127.0.0.1:$dns" "internet tcp 127.0.0.1:$smtp"}; do
    # shellcheck disable=SC2086 # three words
    set -- $port
    running "$1" || port_is_free "$2" "$3" || give_up "port $3 is taken by another program (ss -lntup tells by which)." \
        "It is left alone. Choose another port in $config and run this again."
done

# ---- build ----
step "Building build/release (the first time about a minute)"
at_work "$box/build.log" cmake --preset release || give_up "cmake failed"
at_work "$box/build.log" cmake --build --preset release --target mtad mtactl || give_up "the build failed"

# ---- start ----
if [ -n "$dns" ]; then
    step "The Internet, on this machine"
    if ! current internet mta/sandbox/internet.py "$config"; then
        end internet
        launch internet "$python" -B mta/sandbox/internet.py "$box" "$dns" "$smtp"
        wait_for internet grep -q '^ready' "$box/internet.out"
    fi
    tell "DNS          127.0.0.1:$dns: every domain has its mail server here; our DKIM key is published"
    tell "mail server  127.0.0.1:$smtp: mx.receiver.example, with STARTTLS"
fi
step "mtad"
[ -n "$dns" ] || end internet
if current mtad "$mtad" "$config"; then
    tell "runs already, pid $pid, on $address"
else
    end mtad
    "$mtad" --config "$config" --check >"$box/check.out" 2>&1 || give_up "$(cat "$box/check.out")"
    launch mtad "$mtad" --config "$config"
    wait_for mtad "$mtactl" --config "$config" status
    running mtad
    tell "$("$mtad" --version) runs, pid $pid, as $(ps -o user= -p "$pid" 2>/dev/null || stat -c %U "/proc/$pid"), on $address"
fi

# ---- the proof ----
if [ -n "$dns" ]; then
    "$python" -B mta/sandbox/first_message.py "$box" "$address" "$dns" ||
        give_up "this is not as it should be. The log: $box/mta.log"
fi

# ---- how to go on ----
box=$(word "$box") config=$(word "$config") this=$(word "$root/mta/quickstart.sh")
alias_line="alias mtactl='$(word "$mtactl") --config $config'"
if [ -z "$dns" ]; then
    step "mtad delivers to the real Internet: the sandbox is switched off in $config"
    cat <<TEXT
   No message is sent by this script now.
   $alias_line
   Stop:                  sh $this stop
   Back to the sandbox:   stop, rm -r $box, and run this again
TEXT
    exit 0
fi
step "It works ($(($(date +%s) - begun)) s). mtad goes on running; from here on it is yours."
cat <<TEXT

Look around:
   $alias_line
   mtactl status
   mtactl list                 # what waits
   mtactl show ID              # why it waits: each attempt, each reply, what comes next
   tail -f $box/mta.log

Send your own, to any address; in the sandbox nothing leaves this machine:
   printf 'From: you@sandbox.example\nSubject: hello\n\nIt is me.\n' | curl -sS --crlf -T - \\
     smtp://$address --mail-from you@sandbox.example --mail-rcpt friend@any.example
   ls $box/mailbox
   Applications: SMTP server ${address%:*}, port ${address##*:}, no password, no encryption.
   later@any.example is put off twice (mtactl retry --all), refuse@any.example bounces,
   and the domain nowhere.example does not exist.

Stop:  sh $this stop

From the sandbox to the real Internet: remove the marked lines from the configuration and reload.
   sed -i '/^# >>> SANDBOX/,/^# <<< end/d' $config
   mtactl reload
   Receivers will also want your own hostname there, one whose address resolves back to it, your own
   domain under \`dkim\`, and its key in DNS. Many networks block port 25: then use \`routes\`.

For good: README.md, "Use it for a real domain".
TEXT
