# SPDX-License-Identifier: Apache-2.0
# The lab machine's second step, in its Debian root: set up what a distribution would, run the job
# that the host left in /lab, leave its exit status there and power off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
ln -sf /proc/self/fd /dev/fd
echo lab >/proc/sys/kernel/hostname
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
echo nameserver 10.0.2.3 >/etc/resolv.conf
printf '127.0.0.1 localhost lab\n' >/etc/hosts
chgrp kvm /dev/kvm && chmod 660 /dev/kvm

# No udev here, so the ports are found by the names that the host gave them.
for port in /sys/class/virtio-ports/*; do
	read -r name <"$port/name"
	eval "port_$name=/dev/${port##*/}"
done
cut -d' ' -f1 /proc/uptime >/lab/up
# A port can be opened once only; through a pipe the job may open /dev/stdout as often as it likes.
mkfifo /run/out /run/err
cat /run/out >"$port_out" &
out=$!
cat /run/err >"$port_err" &
err=$!
sh /lab/job </dev/null >/run/out 2>/run/err
echo $? >/lab/status
# What the job left running may hold the pipes open.
(
	sleep 2
	kill $out $err
) 2>/dev/null &
wait $out $err
echo b >/proc/sysrq-trigger
sleep 60
