/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine this machine can run. */
#pragma once

#include "image/image.h"
#include "wire/spec.h"

/* Why the kvm engine cannot be used here. Stable names, for `hutch doctor`. */
enum virt_obstacle {
	VIRT_NONE,
	VIRT_NO_CPU,    /* neither VT-x nor SVM, and the kernel is not made for para-virtualised KVM */
	VIRT_NO_DEVICE, /* no /dev/kvm */
	VIRT_NO_ACCESS, /* it is not open to this user */
};

/* @pack may be NULL: an ordinary kernel. The reason and its remedy in *why (may be NULL). */
enum virt_obstacle virt_obstacle(const struct kernel_pack *pack, struct err *why);

/* The engine for what was asked: never SPEC_ENGINE_AUTO. -1 when kvm was asked for and cannot be. */
int virt_engine(enum spec_engine asked, const struct kernel_pack *pack, enum spec_engine *ret,
	struct err *err);
/* "kvm" or "qemu: software emulation, slow", for people. */
const char *virt_engine_text(enum spec_engine e);
