#!/bin/sh
# Starts a Nuxeo server on a restored configuration and binary store.
#
#   start-nuxeo.sh RESTORED_NUXEO_CONF RESTORED_BINARIES
#
# Both are relative to the drill's target directory, where this runs. The product itself is not backed up: it comes
# with the machine image. NUXEO_HOME says where it stands (default /opt/nuxeo/server).
#
# The restored nuxeo.conf is copied and three settings are put after its own, where the last one counts: data and log
# directories below the target, so that a drill never writes to the machine's own, and the address of the restored
# database, from NUXEO_DB_HOST if it is set.
set -eu

conf=${1:?usage: start-nuxeo.sh RESTORED_NUXEO_CONF RESTORED_BINARIES}
binaries=${2:?usage: start-nuxeo.sh RESTORED_NUXEO_CONF RESTORED_BINARIES}
NUXEO_HOME=${NUXEO_HOME:-/opt/nuxeo/server}
run=$PWD/run/nuxeo

die() {
    echo "start-nuxeo: $1" >&2
    exit 1
}

[ -f "$conf" ] || die "$conf was not restored"
[ -d "$binaries" ] || die "$binaries was not restored"
[ -x "$NUXEO_HOME/bin/nuxeoctl" ] || die "no Nuxeo in $NUXEO_HOME; set NUXEO_HOME to an unpacked server of the same version"

mkdir -p "$run/data" "$run/log" "$run/tmp"
[ -e "$run/data/binaries" ] || ln -s "$PWD/$binaries" "$run/data/binaries"
cp "$conf" "$run/nuxeo.conf"
{
    echo
    echo "nuxeo.data.dir=$run/data"
    echo "nuxeo.log.dir=$run/log"
    echo "nuxeo.tmp.dir=$run/tmp"
    [ -z "${NUXEO_DB_HOST:-}" ] || echo "nuxeo.db.host=$NUXEO_DB_HOST"
} >>"$run/nuxeo.conf"

export NUXEO_HOME NUXEO_CONF="$run/nuxeo.conf"
"$NUXEO_HOME/bin/nuxeoctl" start || die "nuxeoctl could not start the server; see $run/log"
echo "start-nuxeo: started with $run/nuxeo.conf"
