# The init of a Debian system of its own: this machine's files below a layer that takes every change. Arguments: an
# empty directory for it, and the directory with the packages, which appears as /tmp. Everything ends with this process.
set -eu
base=$1
packages=$2
mount -t tmpfs -o mode=755 none "$base"
mkdir "$base/changes" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/changes,workdir=$base/work" none "$base/root"
cd "$base/root"
mount -t proc none proc
mount --rbind /dev dev
mount -t tmpfs none run
mount --bind "$packages" tmp
: >tmp/booted
exec sleep infinity
