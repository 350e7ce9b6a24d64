#!/bin/sh
# PID 1 of one host of a lab, already in the host's own namespaces: its boot, in short.
# Arguments: the lab's state directory, the host's name, then pairs of a private directory or file and where it belongs.
set -eu
state=$1 name=$2
shift 2

read -r self < "$state/proc/self/stat"
hostname "$name"
mount -t proc proc /proc
mount -t sysfs sysfs /sys               # shows the devices of the host's own network
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/lock
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id       # another one at each boot, as on a real machine
while [ $# -ge 2 ]; do
        [ -e "$2" ] || mkdir -p "$2"
        mount --bind "$1" "$2"
        shift 2
done
for device in /sys/class/net/*; do      # the cables stay plugged in; all else was only in the memory that is lost
        case ${device##*/} in
        lo|eth0) ;;
        eth1) [ "$name" = upstream ] || ip address flush dev eth1 scope global ;;
        *) ip link delete "${device##*/}" 2> /dev/null || : ;;
        esac
done
nft flush ruleset
echo 0 > /proc/sys/net/ipv4/ip_forward  # what the machine below has switched on is not passed on
for switch in /proc/sys/net/bridge/bridge-nf-call-*; do
        [ ! -e "$switch" ] || echo 0 > "$switch"
done

echo "$self" > "$state/$name/host.pid.new"
mv "$state/$name/host.pid.new" "$state/$name/host.pid"
exec env --ignore-signal=CHLD sleep infinity   # a parent that ignores it has its dead reaped by the kernel, at once
