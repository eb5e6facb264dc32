/* SPDX-License-Identifier: Apache-2.0 */
/* Whether hardware virtualization can be used.
 *
 * /dev/kvm alone proves nothing: it also exists on para-virtualised hosts (PVM) that cannot boot an
 * ordinary kernel. So the CPU has to show vmx or svm, or the kernel pack's configuration has to say
 * that the kernel was built for such a host. */
#include "image/virt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

static bool cpu_virtualizes(void)
{
	_buf_ struct buf info;
	const char *flags;
	size_t len;

	buf_init(&info, 16u << 20);
	if (fs_read_file(AT_FDCWD, "/proc/cpuinfo", &info, NULL) < 0)
		return false;
	flags = strstr(buf_cstr(&info), "\nflags");
	if (!flags)
		return false;
	len = strcspn(flags + 1, "\n");
	return memmem(flags, len + 2, " vmx ", 5) || memmem(flags, len + 2, " svm ", 5) ||
		memmem(flags, len + 2, " vmx\n", 5) || memmem(flags, len + 2, " svm\n", 5);
}

enum virt_obstacle virt_obstacle(const struct kernel_pack *pack, struct err *why)
{
	if (!(pack && pack->paravirtual) && !cpu_virtualizes()) {
		err_set(why, ERR_ENV, "no hardware virtualization: the CPU flags show neither vmx nor svm");
		err_hint(why, "on a cloud machine choose a type with nested virtualization");
		return VIRT_NO_CPU;
	}
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return VIRT_NONE;
	if (errno == ENOENT) {
		err_set(why, ERR_ENV, "the CPU can virtualize but there is no /dev/kvm");
		err_hint(why, "modprobe kvm_intel or kvm_amd");
		return VIRT_NO_DEVICE;
	}
	err_set(why, ERR_ENV, "/dev/kvm is not open to this user");
	err_hint(why, "sudo usermod -aG kvm $USER, then log in again");
	return VIRT_NO_ACCESS;
}

int virt_engine(enum spec_engine asked, const struct kernel_pack *pack, enum spec_engine *ret,
	struct err *err)
{
	struct err why = {0};

	if (asked == SPEC_ENGINE_QEMU) {
		*ret = SPEC_ENGINE_QEMU;
		return 0;
	}
	if (virt_obstacle(pack, &why) == VIRT_NONE) {
		*ret = SPEC_ENGINE_KVM;
		return 0;
	}
	if (asked == SPEC_ENGINE_AUTO) {
		*ret = SPEC_ENGINE_QEMU;
		return 0;
	}
	err_set(err, why.class, "--engine kvm: %s", why.msg);
	return err_hint(err, "%s", why.hint);
}

const char *virt_engine_text(enum spec_engine e)
{
	return e == SPEC_ENGINE_KVM ? "kvm" : "qemu: software emulation, slow";
}
