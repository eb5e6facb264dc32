# SPDX-License-Identifier: Apache-2.0
"""The small kernel: its options, and a sandbox that runs on it."""
import glob
import os
import re

import pytest

from conftest import CACHE, REPO

FRAGMENT = os.path.join(REPO, "tools", "kernel", "x86_64.config")
PACKS = os.path.join(CACHE, "hutch", "kernels")

# What a container engine needs of its kernel, by what it does with it.
CONTAINERS = {
    "isolate processes": """NAMESPACES NET_NS PID_NS IPC_NS UTS_NS USER_NS KEYS SECCOMP
        SECCOMP_FILTER""",
    "limit and count": """CGROUPS CGROUP_CPUACCT CGROUP_DEVICE CGROUP_FREEZER CGROUP_SCHED CPUSETS
        MEMCG CGROUP_PIDS BLK_CGROUP BLK_DEV_THROTTLING CGROUP_PERF CGROUP_HUGETLB CGROUP_BPF
        CGROUP_NET_PRIO NET_CLS_CGROUP CFS_BANDWIDTH FAIR_GROUP_SCHED""",
    "stack layers": "OVERLAY_FS EXT4_FS EXT4_FS_POSIX_ACL EXT4_FS_SECURITY TMPFS_XATTR",
    "connect containers": """VETH BRIDGE BRIDGE_NETFILTER BRIDGE_VLAN_FILTERING MACVLAN IPVLAN DUMMY
        VXLAN TUN""",
    "publish ports, iptables": """NF_CONNTRACK NF_NAT NETFILTER_XTABLES IP_NF_IPTABLES IP_NF_FILTER
        IP_NF_MANGLE IP_NF_RAW IP_NF_NAT IP_NF_TARGET_MASQUERADE IP_NF_TARGET_REDIRECT
        IP_NF_TARGET_REJECT IP6_NF_IPTABLES IP6_NF_FILTER IP6_NF_MANGLE IP6_NF_RAW IP6_NF_NAT
        IP6_NF_TARGET_MASQUERADE NETFILTER_XT_MATCH_ADDRTYPE NETFILTER_XT_MATCH_BPF
        NETFILTER_XT_MATCH_COMMENT NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_IPVS
        NETFILTER_XT_MATCH_MULTIPORT NETFILTER_XT_MARK NETFILTER_XT_SET NETFILTER_XT_TARGET_CHECKSUM
        NETFILTER_XT_NAT IP_SET IP_SET_HASH_NET""",
    "publish ports, nftables": """NF_TABLES NF_TABLES_INET NF_TABLES_IPV4 NF_TABLES_IPV6 NFT_CT
        NFT_MASQ NFT_NAT NFT_REJECT NFT_COMPAT NFT_FIB_INET NFT_LIMIT NFT_LOG""",
    "balance services": "IP_VS IP_VS_NFCT IP_VS_PROTO_TCP IP_VS_PROTO_UDP IP_VS_RR",
    "queues between processes": "POSIX_MQUEUE SYSVIPC",
}
# What a sandbox of Hutch boots from and lives on.
SANDBOX = """PVH VIRTIO_MMIO VIRTIO_MMIO_CMDLINE_DEVICES VIRTIO_PCI X86_MPPARSE ACPI VIRTIO_BLK
    VIRTIO_NET VIRTIO_VSOCKETS VIRTIO_FS VIRTIO_BALLOON PAGE_REPORTING VIRTIO_CONSOLE HW_RANDOM_VIRTIO SQUASHFS
    SQUASHFS_LZ4 EROFS_FS EXT4_FS OVERLAY_FS DEVTMPFS TMPFS BLK_DEV_INITRD SERIAL_8250_CONSOLE
    KVM_GUEST IO_URING BPF_SYSCALL BPF_JIT BINFMT_MISC SECURITY_LANDLOCK IPV6"""


def options(path):
    with open(path) as f:
        return set(re.findall(r"^CONFIG_(\w+)=y$", f.read(), re.M))


def lacks(path):
    have = options(path)
    wanted = dict(CONTAINERS, sandbox=SANDBOX)
    return {what: missing for what, names in wanted.items()
            if (missing := [n for n in names.split() if n not in have])}


@pytest.fixture
def pack():
    """The small kernel in use, else the newest that was built."""
    made = [os.path.dirname(r) for r in glob.glob(os.path.join(PACKS, "*", "recipe"))]
    in_use = os.path.join(PACKS, "small")
    if not made:
        pytest.skip("there is no small kernel in %s (tools/test kernel builds it)" % CACHE)
    return os.path.realpath(in_use if os.path.exists(in_use) else max(made, key=os.path.getmtime))


def test_options_that_are_asked_for():
    assert lacks(FRAGMENT) == {}


def test_options_that_came_true(pack):
    config = os.path.join(pack, "config")
    with open(config) as f:
        lines = f.read().splitlines()
    assert lacks(config) == {}
    with open(FRAGMENT) as f:
        for line in f.read().splitlines():
            if line.startswith("CONFIG_"):
                assert line in lines
            elif m := re.fullmatch(r"# (CONFIG_\w+) is not set", line):
                assert not any(l.startswith(m[1] + "=") for l in lines), line
    assert not [l for l in lines if l.endswith("=m")]


# What works in a running sandbox, as its root: commands that succeed.
WORKS = {
    "no modules": "test ! -e /proc/modules",
    "ext4, overlay": "grep -q ' /var/lib/docker ext4 ' /proc/mounts &&"
                     " grep -q '^root / overlay ' /proc/mounts",
    "file systems": "for fs in erofs fuse virtiofs vfat iso9660; do"
                    " grep -qw $fs /proc/filesystems || exit 1; done",
    "controllers": "for c in cpu cpuset io memory hugetlb pids misc; do"
                   " grep -qw $c /sys/fs/cgroup/cgroup.controllers || exit 1; done",
    "memory limit": "cd /sys/fs/cgroup && mkdir t && echo +memory >cgroup.subtree_control &&"
                    " echo 64M >t/memory.max && rmdir t",
    "namespaces": "sudo -u agent unshare -Urnmpuifc --fork true",
    "loop device": "truncate -s 8M /tmp/i && mkfs.ext4 -q /tmp/i && mount -o loop /tmp/i /mnt &&"
                   " umount /mnt",
    "veth, bridge, vxlan": "ip link add v0 type veth peer name v1 && ip link add br0 type bridge &&"
                           " ip link set v0 master br0 &&"
                           " ip link add vx0 type vxlan id 1 dstport 4789",
    "tunnel": "ip tuntap add t0 mode tun",
    "bridged packets are filtered": "test -e /proc/sys/net/bridge/bridge-nf-call-iptables",
    "connection tracking": "test -e /proc/sys/net/netfilter/nf_conntrack_max",
    "foreign programs": "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc",
    "message queues": "mkdir /tmp/q && mount -t mqueue none /tmp/q",
    "io_uring": "test $(cat /proc/sys/kernel/io_uring_disabled) = 0",
    "its options": "zcat /proc/config.gz | grep -q CONFIG_PVH=y",
}


def test_a_sandbox_on_the_small_kernel(home, pack):
    work = home.path("w")
    os.makedirs(work)
    home.ok("create", "--name", "small", "--cpus", "2", "shell", work, env={"HUTCH_KERNEL": pack})
    with open(os.path.join(pack, "release")) as f:
        assert home.ok("exec", "small", "--", "uname", "-r") == f.read().strip() + "\n"
    assert home.ok("exec", "small", "--", "nproc") == "2\n"
    script = "".join("(%s) || echo '%s'\n" % (command, what) for what, command in WORKS.items())
    r = home.run("exec", "-u", "root", "small", "--", "bash", "-c", script)
    assert (r.stdout, r.returncode) == ("", 0), r.stderr
    home.ok("exec", "small", "--", "touch", "made-on-small")
    assert os.path.exists(os.path.join(work, "made-on-small"))
