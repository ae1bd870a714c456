#!/bin/sh
# Brings the restored shop up below the drill's target directory.
#
#   start-shop.sh APP
#
# APP is the directory, below the current one, that the application was restored into. This shop is static files and
# a database that is opened in place, so starting it means: everything it needs is there and readable. Put the
# command that starts your own service where the note says, and let a check of the plan ask it for a page.
set -eu

app=${1:?usage: start-shop.sh APP}

[ -d "$app" ] || { echo "start-shop: $app was not restored" >&2; exit 1; }
if [ -z "$(find "$app" -type f -print | head -n 1)" ]; then
    echo "start-shop: $app holds no files" >&2
    exit 1
fi
unreadable=$(find "$app" -type f ! -perm -u+r -print | head -n 1)
[ -z "$unreadable" ] || { echo "start-shop: cannot read $unreadable" >&2; exit 1; }

# Start your own service here, for instance: "$app/bin/shop" --database ../orders --port 8080 &

date -u +%Y-%m-%dT%H:%M:%SZ >"$app/started.txt"
echo "start-shop: $(find "$app" -type f | wc -l) files in place"
