#!/bin/sh
# Recovery script of the quickstart's shop: looks at what was restored and writes the file `ready` when all is well.
# Runs in the directory that the drill restored into; needs nothing but a base system.
set -eu
cd "${LIFEBOAT_TARGET:-.}"

fail() {
    echo "not ready: $*" >&2
    exit 1
}

# one NAME: the only file of that name below here.
one() {
    found=$(find . -type f -name "$1" | head -n 1)
    [ -n "$found" ] || fail "$1 was not restored"
    echo "$found"
}

server=$(one server.xml)
webapp=$(dirname "$(dirname "$server")")
( cd "$webapp" && sha256sum -c --quiet conf/SHA256SUMS ) || fail "a web application differs from its checksum"
[ -x "$webapp/bin/start.sh" ] || fail "bin/start.sh is not executable"
[ "$(readlink "$webapp/current.war")" = "deployment/shop.war" ] || fail "current.war does not lead to shop.war"

database=$(one orders.db)
[ "$(head -c 15 "$database")" = "SQLite format 3" ] || fail "orders.db is no SQLite database"

image=$(one disk.img)
[ "$(wc -c < "$image")" -eq 67108864 ] || fail "disk.img has the wrong size"
[ "$(head -c 13 "$image")" = "SHOP-DISK-001" ] || fail "disk.img does not begin with its label"

log=$(one app.log)
tail -n 1 "$log" | grep -q '^20[0-9][0-9]-[0-9][0-9]-' || fail "the last line of app.log has no time"

{
    echo "files $(find "$webapp" -type f | wc -l)"
    echo "last log line $(tail -n 1 "$log" | cut -c 1-24)"
} > ready.writing
mv ready.writing ready
cat ready
