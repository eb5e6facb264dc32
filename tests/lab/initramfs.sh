#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# First process of the lab machine: modules, the root image under a tmpfs overlay, the host's
# directories at their own paths, then tests/lab/start.sh from the checkout.
b=/bin/busybox
fail() {
	echo "lab: $*"
	$b reboot -f
}
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
for m in /modules/*; do
	options=
	# Virtual machines in the lab's virtual machines would be a fourth level: not offered. The emulated
	# processor has no AVIC (see machine.py).
	[ "${m%kvm-amd.ko}" = "$m" ] || options="nested=0 avic=0"
	# shellcheck disable=SC2086
	$b insmod "$m" $options || fail "insmod $m"
done
$b mount -t squashfs -o ro /dev/vda /ro || fail "no root image"
$b mount -t tmpfs -o size=85% rw /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work root /root || fail "no overlay"
# Before the shares, which may lie in there.
$b mount -t tmpfs -o mode=1777,size=85% tmp /root/tmp
$b mount -t tmpfs -o mode=755 run /root/run

# The job directory is the one share that the host sees written; it lists the others: tag, path and
# "cow" where the lab may write for itself.
share() { # tag path options
	$b mkdir -p "/root$2"
	$b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "/root$2" ||
		fail "share $1 at $2"
}
share job /lab cache=none,rw
while read -r tag path cow; do
	share "$tag" "$path" cache=loose,ro
	[ -n "$cow" ] || continue
	$b mkdir -p "/root/lower/$tag" "/rw/$tag/upper" "/rw/$tag/work"
	$b mount --move "/root$path" "/root/lower/$tag"
	$b mount -t overlay -o "lowerdir=/root/lower/$tag,upperdir=/rw/$tag/upper,workdir=/rw/$tag/work" \
		cow "/root$path" || fail "share $tag at $path"
done </root/lab/shares
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
read -r start </root/lab/start
exec $b switch_root /root /bin/sh "$start"
