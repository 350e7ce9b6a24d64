#!/bin/sh
# Becomes a daemon of a lab's host. Arguments: the lab's state directory, the host's name, the daemon's name, command.
# Leaves its stat line in DAEMON.pid; all that the daemon says is appended to DAEMON.log.
state=$1 host=$2 daemon=$3
shift 3
exec < /dev/null >> "$state/$host/$daemon.log" 2>&1
read -r self < "$state/proc/self/stat"
echo "$self" > "$state/$host/$daemon.pid.new"
mv "$state/$host/$daemon.pid.new" "$state/$host/$daemon.pid"
exec "$@"
