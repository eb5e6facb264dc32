/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X of one PCI function.
 *
 * A vector is live when MSI-X is enabled and neither the function nor the entry is masked.
 * Interrupts of a vector that is not live become pending bits and are sent when it is. The
 * hypervisor hears of an entry when it goes live or changes while live, not when it is masked: a
 * driver that masks and unmasks costs no system call. */
#include "vmm/msix.h"

#include <endian.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define ENTRY_MASKED 1u

int msix_init(struct msix *m, struct hv *hv, unsigned first, unsigned n, struct err *err)
{
	*m = (struct msix){.hv = hv, .first = first};
	pthread_mutex_init(&m->lock, NULL);
	if (n > MSIX_VECTORS_MAX || first + n > HV_MSIS_MAX) {
		msix_done(m);
		return err_set(err, ERR_BUG, "too many interrupt vectors");
	}
	for (; m->n < n; m->n++) {
		m->table[m->n].control = ENTRY_MASKED; /* after power-on (6.8.2.9) */
		m->fds[m->n] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (m->fds[m->n] < 0) {
			err_errno(err, "interrupt vector");
			msix_done(m);
			return -1;
		}
	}
	return 0;
}

void msix_done(struct msix *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		if (m->routed[i])
			hv_msi(m->hv, m->first + i, -1, 0, 0, NULL);
		close_and_reset(&m->fds[i]);
	}
	m->n = 0;
	pthread_mutex_destroy(&m->lock);
}

static void send_message(const struct msix *m, unsigned i)
{
	uint64_t one = 1;

	/* A counter that is full is an interrupt that is pending already. */
	if (write(m->fds[i], &one, sizeof(one)) < 0)
		return;
}

static bool live(const struct msix *m, unsigned i)
{
	return m->enabled && !m->masked && !(m->table[i].control & ENTRY_MASKED);
}

/* Vector @i may have become live, or has changed. Under the lock. */
static void update(struct msix *m, unsigned i)
{
	const struct msix_entry *e = &m->table[i];
	struct err err;

	if (!live(m, i))
		return;
	if (!m->routed[i]) {
		if (hv_msi(m->hv, m->first + i, m->fds[i],
			    (uint64_t)e->addr_high << 32 | e->addr_low, e->data, &err) < 0) {
			log_limited(LOG_WARN, "msi=%u: %s", m->first + i, err.msg);
			return;
		}
		m->routed[i] = true;
	}
	if (m->pending & 1ull << i) {
		m->pending &= ~(1ull << i);
		send_message(m, i);
	}
}

bool msix_notify(struct msix *m, unsigned vector)
{
	bool enabled;

	pthread_mutex_lock(&m->lock);
	enabled = m->enabled;
	if (enabled && vector < m->n) {
		if (live(m, vector) && m->routed[vector])
			send_message(m, vector);
		else
			m->pending |= 1ull << vector;
	}
	pthread_mutex_unlock(&m->lock);
	return enabled;
}

void msix_clear_pending(struct msix *m)
{
	pthread_mutex_lock(&m->lock);
	m->pending = 0;
	pthread_mutex_unlock(&m->lock);
}

void msix_control(struct msix *m, uint16_t control)
{
	pthread_mutex_lock(&m->lock);
	m->enabled = control & MSIX_ENABLE;
	m->masked = control & MSIX_MASK_ALL;
	for (unsigned i = 0; i < m->n; i++)
		update(m, i);
	pthread_mutex_unlock(&m->lock);
}

/* The word of the table at @off, or NULL. */
static uint32_t *table_word(struct msix *m, uint64_t off)
{
	struct msix_entry *e;

	if (off / MSIX_ENTRY_BYTES >= m->n)
		return NULL;
	e = &m->table[off / MSIX_ENTRY_BYTES];
	switch (off % MSIX_ENTRY_BYTES) {
	case 0:
		return &e->addr_low;
	case 4:
		return &e->addr_high;
	case 8:
		return &e->data;
	default:
		return &e->control;
	}
}

static bool whole_words(uint64_t off, unsigned len)
{
	return (len == 4 || len == 8) && off % len == 0;
}

void msix_table_read(struct msix *m, uint64_t off, void *to, unsigned len)
{
	memset(to, 0, len);
	if (!whole_words(off, len))
		return;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < len; i += 4) {
		const uint32_t *w = table_word(m, off + i);
		uint32_t v = w ? htole32(*w) : 0;

		memcpy((uint8_t *)to + i, &v, sizeof(v));
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_table_write(struct msix *m, uint64_t off, const void *from, unsigned len)
{
	unsigned vector = (unsigned)(off / MSIX_ENTRY_BYTES);

	if (!whole_words(off, len) || off / MSIX_ENTRY_BYTES >= m->n)
		return;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < len; i += 4) {
		uint32_t *w = table_word(m, off + i), v;

		memcpy(&v, (const uint8_t *)from + i, sizeof(v));
		v = le32toh(v);
		if (w == &m->table[vector].control) {
			*w = v & ENTRY_MASKED; /* the rest is reserved */
		} else if (*w != v) {
			*w = v;
			m->routed[vector] = false;
		}
	}
	update(m, vector);
	pthread_mutex_unlock(&m->lock);
}

void msix_pending_read(struct msix *m, uint64_t off, void *to, unsigned len)
{
	uint64_t v;

	memset(to, 0, len);
	if (!whole_words(off, len) || off + len > sizeof(v))
		return;
	pthread_mutex_lock(&m->lock);
	v = htole64(m->pending);
	pthread_mutex_unlock(&m->lock);
	memcpy(to, (const uint8_t *)&v + off, len);
}
