# SPDX-License-Identifier: Apache-2.0
"""A few ioctls of /dev/kvm, enough to prove that a virtual machine runs and to time its exits.

    python3 kvm.py [EXITS]      run a guest of a few bytes that leaves by port writes; print the cost
"""
import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

GET_API_VERSION, CREATE_VM, GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
CREATE_VCPU, RUN = 0xAE41, 0xAE80
SET_USER_MEMORY_REGION = 0x4020AE46
SET_REGS, GET_SREGS, SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
EXIT_IO, EXIT_HLT = 2, 5


def unusable():
    """Why /dev/kvm cannot be used, or None. The device alone proves nothing: it also exists on hosts
    that cannot run an ordinary kernel in it."""
    with open("/proc/cpuinfo") as f:
        flags = next((line.split() for line in f if line.startswith("flags")), [])
    if not {"vmx", "svm"} & set(flags):
        return "the processor offers neither VT-x nor SVM"
    try:
        with open_kvm() as kvm:
            if fcntl.ioctl(kvm, GET_API_VERSION, 0) != 12:
                return "/dev/kvm speaks another version"
            os.close(fcntl.ioctl(kvm, CREATE_VM, 0))
    except OSError as e:
        return "/dev/kvm: " + e.strerror
    return None


@contextlib.contextmanager
def open_kvm():
    fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def count_exits(n):
    """Run a real-mode guest that writes a port @n times and halts: (exits, seconds per exit)."""
    #     mov ecx, n; again: out 0x10, al; dec ecx; jnz again; hlt
    code = b"\x66\xb9" + struct.pack("<I", n) + b"\xe6\x10\x66\x49\x75\xfa\xf4"
    with open_kvm() as kvm:
        vm = fcntl.ioctl(kvm, CREATE_VM, 0)
        memory = mmap.mmap(-1, 0x10000)
        memory[0x1000:0x1000 + len(code)] = code
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        fcntl.ioctl(vm, SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, len(memory), address))
        vcpu = fcntl.ioctl(vm, CREATE_VCPU, 0)
        run = mmap.mmap(vcpu, fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE, 0))
        sregs = bytearray(312)
        fcntl.ioctl(vcpu, GET_SREGS, sregs)
        sregs[0:8] = bytes(8)      # cs.base
        sregs[12:14] = bytes(2)    # cs.selector
        fcntl.ioctl(vcpu, SET_SREGS, bytes(sregs))
        regs = [0] * 18
        regs[16], regs[17] = 0x1000, 2  # rip, rflags
        fcntl.ioctl(vcpu, SET_REGS, struct.pack("<18Q", *regs))
        exits, begin = 0, time.monotonic()
        while True:
            fcntl.ioctl(vcpu, RUN, 0)
            reason = struct.unpack_from("<I", run, 8)[0]
            if reason != EXIT_IO:
                break
            exits += 1
        spent = time.monotonic() - begin
        os.close(vcpu)
        os.close(vm)
    if reason != EXIT_HLT:
        raise RuntimeError("the guest ended with exit reason %d" % reason)
    return exits, spent / max(exits, 1)


if __name__ == "__main__":
    why = unusable()
    if why:
        sys.exit("kvm: " + why)
    total, each = count_exits(int(sys.argv[1]) if len(sys.argv) > 1 else 10000)
    print("%d exits to user space, %.1f us each" % (total, each * 1e6))
