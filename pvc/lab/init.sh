#!/bin/sh
# PID 1 of a lab: makes the lab's own /proc, /run and /etc, then reaps orphans for ever.
# Arguments: the lab's state directory and its name. Leaves its stat line in init.pid once all is made.
set -eu
state=$1 name=$2

mkdir -p "$state/proc"
mount --bind /proc "$state/proc"        # processes as numbered outside, so that records hold numbers valid there
read -r self < "$state/proc/self/stat"
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/netns /run/lock

# A copy, so that directories can be made in it which this machine lacks; a cluster that this machine belongs to is not
# the lab's.
mkdir /run/etc
cp -a /etc/. /run/etc
rm -rf /run/etc/pvc
cp "$state/hosts" /run/etc/hosts
mkdir -p /run/etc/libvirt /run/etc/pvc
: >> /run/etc/machine-id                # there to be covered by each host's own
mount --rbind /run/etc /etc

# Where the hosts mount the directory that they share; the machine below need not have a place for it.
[ ! -d "$state/shared" ] || mount -t tmpfs -o mode=0755 tmpfs /mnt

hostname "$name"
for switch in /proc/sys/net/bridge/bridge-nf-call-*; do
        [ ! -e "$switch" ] || echo 0 > "$switch"
done

echo "$self" > "$state/init.pid.new"
mv "$state/init.pid.new" "$state/init.pid"
exec env --ignore-signal=CHLD sleep infinity   # a parent that ignores it has its dead reaped by the kernel, at once
