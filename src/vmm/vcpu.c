/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads count as running the guest's code: they hold no state of the host's but the machine's
 * buses, and touch devices only through their register windows. */
#include "vmm/vcpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/mem.h"

struct vcpu {
	struct vcpus *all; /* borrowed */
	struct hv_vcpu *hv; /* borrowed */
	unsigned id;
	pthread_t thread;
	_Atomic uint64_t exits[HV_EXIT_REASONS];
	_Atomic uint64_t lost;
};

struct vcpus {
	struct vcpus_config c;
	unsigned n;
	struct vcpu v[HV_VCPUS_MAX];
};

/* A counter that one thread writes and others read. */
static void count(_Atomic uint64_t *n)
{
	atomic_store_explicit(
		n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void port_access(struct vcpu *v, const struct hv_exit *x)
{
	for (unsigned i = 0; i < x->count; i++) {
		uint8_t *data = x->data + (size_t)i * x->len;
		bool there = x->write ? bus_write(v->all->c.ports, x->addr, data, x->len) :
					bus_read(v->all->c.ports, x->addr, data, x->len);

		if (!there)
			count(&v->lost);
	}
}

static void memory_access(struct vcpu *v, const struct hv_exit *x)
{
	bool there = x->write ? bus_write(v->all->c.memory, x->addr, x->data, x->len) :
				bus_read(v->all->c.memory, x->addr, x->data, x->len);

	if (!there)
		count(&v->lost);
}

/* False: this vCPU has ended. */
static bool handle(struct vcpu *v, const struct hv_exit *x)
{
	switch (x->reason) {
	case HV_EXIT_PORT:
		port_access(v, x);
		return true;
	case HV_EXIT_MEMORY:
		memory_access(v, x);
		return true;
	case HV_EXIT_SIGNAL:
		return true;
	case HV_EXIT_SHUTDOWN:
		log_info("vcpu=%u triple fault: reset", v->id);
		v->all->c.on_end(v->all->c.arg, VCPU_RESET);
		return false;
	case HV_EXIT_FAILED:
	case HV_EXIT_REASONS:
	default:
		log_error("vcpu=%u cannot go on: detail=0x%llx", v->id, (unsigned long long)x->detail);
		v->all->c.on_end(v->all->c.arg, VCPU_FAILED);
		return false;
	}
}

static void *run(void *arg)
{
	struct vcpu *v = arg;
	char name[16];
	struct hv_exit x;
	struct err err;

	snprintf(name, sizeof(name), "vcpu-%u", v->id);
	prctl(PR_SET_NAME, name);
	if (v->all->c.thread_start)
		v->all->c.thread_start(v->all->c.arg);
	do {
		if (hv_vcpu_run(v->hv, &x, &err) < 0) {
			log_error("vcpu=%u: %s", v->id, err.msg);
			v->all->c.on_end(v->all->c.arg, VCPU_FAILED);
			return NULL;
		}
		count(&v->exits[x.reason]);
	} while (handle(v, &x));
	return NULL;
}

struct vcpus *vcpus_start(
	struct hv_vcpu *const *hv, unsigned n, const struct vcpus_config *c, struct err *err)
{
	struct vcpus *all = xcalloc(1, sizeof(*all));

	all->c = *c;
	all->n = n;
	for (unsigned i = 0; i < n; i++) {
		struct vcpu *v = &all->v[i];

		v->all = all;
		v->hv = hv[i];
		v->id = i;
		if (pthread_create(&v->thread, NULL, run, v) != 0) {
			err_errno(err, "vCPU thread");
			return NULL; /* threads may run already: the caller ends the process */
		}
	}
	return all;
}

void vcpus_stats(const struct vcpus *all, struct vcpu_stats *ret)
{
	*ret = (struct vcpu_stats){0};
	for (unsigned i = 0; i < all->n; i++) {
		for (unsigned r = 0; r < HV_EXIT_REASONS; r++)
			ret->exits[r] += atomic_load_explicit(&all->v[i].exits[r], memory_order_relaxed);
		ret->lost += atomic_load_explicit(&all->v[i].lost, memory_order_relaxed);
	}
}
