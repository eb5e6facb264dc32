/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-secret's end: packets of a gate that has been taken over. Each is refused, or gets exactly
 * one answer, which carries a value only for services of the sandbox. The store holds values only,
 * so nothing is run. Input: packets, each behind its length (2 bytes). */
#include <stdint.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "scratch.h"

static unsigned n_answers;
static uint32_t last_id;
static struct broker_msg last;

static void on_answer(void *arg, const struct broker_msg *m, const void *data)
{
	if (!broker_check(m, data, sizeof(*m) + m->len, false))
		abort();
	if (m->type == BROKER_VALUE ||
		(m->type == BROKER_LASTING && (m->len != 5 || memcmp(data, "value", 5) != 0)))
		abort();
	n_answers++;
	last_id = m->id;
	last = *m;
}

/* The store does not change, and has values only. */
static void on_old(void *arg)
{
	abort();
}

static void feed(struct broker *b, const uint8_t *p, size_t len)
{
	uint8_t *exact = xmalloc(len ? len : 1); /* ASan sees what is read beyond */
	unsigned before = n_answers;
	struct broker_msg m;
	bool ok;

	if (len)
		memcpy(exact, p, len);
	ok = broker_packet(b, exact, len);
	free(exact);
	if (n_answers != before + ok)
		abort();
	if (!ok)
		return;
	memcpy(&m, p, sizeof(m));
	if (last_id != m.id || m.len != len - sizeof(m))
		abort();
	if ((last.type == BROKER_LASTING) != (m.len == 3 && memcmp(p + sizeof(m), "own", 3) == 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char own[] = "own", unset[] = "unset", *services[] = {own, unset, NULL};
	static struct loop *loop;
	struct broker *b;

	if (!loop) {
		loop = loop_new(NULL);
		scratch_put("own", "value", 5);
		scratch_put("other", "of others", 9);
	}
	b = broker_new(loop, (const int[2]){-1, scratch_store()}, "box", services, on_answer,
		on_old, NULL, NULL);
	while (size >= 2) {
		size_t len = (size_t)data[0] | (size_t)data[1] << 8;

		data += 2;
		size -= 2;
		len = MIN(len, size);
		feed(b, data, len);
		data += len;
		size -= len;
	}
	broker_free(b);
	return 0;
}
