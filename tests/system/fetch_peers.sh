#!/bin/sh
# Brings the other vendors' servers and clients that the system tests talk to: downloaded and unpacked into a
# folder of their own, never installed (they conflict with each other and with what a user may run).
#   sh tests/system/fetch_peers.sh [FOLDER]      prints the folder
set -eu
folder=${1:-${MTA_TEST_PEERS:-${XDG_CACHE_HOME:-/var/tmp}/mta-test-peers}}
peers="postfix unbound nsd opendkim php8.2-cli exim4-daemon-light gsasl node-nodemailer libauthen-sasl-perl
libio-socket-ssl-perl"
stamp="$folder/complete-6"

if [ -e "$stamp" ]; then
    echo "$folder"
    exit 0
fi

rm -rf "$folder.new"
mkdir -p "$folder.new/debs" "$folder.new/root"
cd "$folder.new/debs"

# What the peers link to and the machine lacks. --print-uris only computes; nothing is installed.
# Each for itself: some of them conflict.
missing=$(for peer in $peers; do
    apt-get install --print-uris -qq --no-install-recommends "$peer" 2>/dev/null || true
done | awk '{ sub(/_.*/, "", $2); print $2 }')
for package in $peers $missing; do
    echo "$package"
done | sort -u | xargs apt-get -qq -o APT::Sandbox::User=root download >&2

for package in *.deb; do
    dpkg-deb -x "$package" ../root
done
# Tools that tests call by name find their libraries through a small wrapper.
mkdir ../bin
wrap() { # wrap NAME PROGRAM
    cat >"../bin/$1" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$folder/root/usr/lib:$folder/root/usr/lib/$(uname -m)-linux-gnu exec $folder/root/usr/$2 "\$@"
WRAPPER
    chmod 755 "../bin/$1"
}
wrap opendkim sbin/opendkim
wrap php bin/php8.2
cd /
rm -rf "$folder.new/debs" "$folder"
mv "$folder.new" "$folder"
: >"$stamp"
echo "$folder"
