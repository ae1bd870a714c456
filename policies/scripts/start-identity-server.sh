#!/bin/sh
# Starts a WSO2 Identity Server on restored artifacts and configuration.
#
#   start-identity-server.sh RESTORED_HOME
#
# RESTORED_HOME is the restored part of the server's home, relative to the drill's target directory (where this runs).
# The product itself (bin/, lib/, wso2/) is not backed up: it is the same for everyone and comes with the machine
# image. WSO2IS_PRODUCT says where it stands (default /opt/wso2/product/wso2is); it is copied, never changed.
#
# Where the databases are: deployment.toml must refer to them by the environment, as in
# url = "$env{IDENTITY_DB_URL}", so that a drill can point the server at the restored instances.
set -eu

restored=${1:?usage: start-identity-server.sh RESTORED_HOME}
product=${WSO2IS_PRODUCT:-/opt/wso2/product/wso2is}
home=$PWD/run/wso2is

die() {
    echo "start-identity-server: $1" >&2
    exit 1
}

[ -d "$restored/repository/conf" ] || die "$restored/repository/conf was not restored"
[ -f "$restored/repository/conf/deployment.toml" ] || die "deployment.toml is missing in $restored/repository/conf"
[ -x "$product/bin/wso2server.sh" ] || [ -x "$product/bin/wso2is.sh" ] ||
    die "no Identity Server in $product; set WSO2IS_PRODUCT to an unpacked product of the same version"

mkdir -p "$home"
cp -a "$product/." "$home/"
cp -a "$restored/repository/." "$home/repository/"

start=$home/bin/wso2server.sh
[ -x "$start" ] || start=$home/bin/wso2is.sh
export CARBON_HOME="$home"
"$start" start

# The process id file appears when the launcher has forked; the plan's checks wait for the server itself.
attempts=0
while [ ! -s "$home/wso2carbon.pid" ]; do
    attempts=$((attempts + 1))
    [ "$attempts" -le 60 ] || die "the server wrote no process id within a minute; see $home/repository/logs"
    sleep 1
done
pid=$(cat "$home/wso2carbon.pid")
kill -0 "$pid" 2>/dev/null || die "the server ended at once; see $home/repository/logs/wso2carbon.log"
echo "start-identity-server: started as process $pid in $home"
