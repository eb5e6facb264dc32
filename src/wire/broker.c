/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between hutch-gate and hutch-secret: the shape of each. */
#include "wire/broker.h"

#include "base/mem.h"

static const struct {
	bool from_gate;
	uint32_t min, max; /* bytes of data */
} shapes[] = {
	[BROKER_GET] = {true, 1, BROKER_NAME_MAX},
	[BROKER_VALUE] = {false, 1, BROKER_VALUE_MAX},
	[BROKER_NONE] = {false, 0, 0},
	[BROKER_FAILED] = {false, 1, BROKER_REASON_MAX},
	[BROKER_LASTING] = {false, 1, BROKER_VALUE_MAX},
	[BROKER_WATCH] = {false, 0, 0},
};
_Static_assert(ARRAY_SIZE(shapes) == BROKER_TYPES, "a shape for every broker_type");

static bool is_printable(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x20 || p[i] == 0x7f)
			return false;
	return true;
}

bool broker_check(const struct broker_msg *m, const void *data, size_t size, bool from_gate)
{
	if (size < sizeof(*m) || m->type == 0 || m->type >= BROKER_TYPES || m->zero ||
		m->len != size - sizeof(*m))
		return false;
	if (shapes[m->type].from_gate != from_gate || m->len < shapes[m->type].min ||
		m->len > shapes[m->type].max)
		return false;
	return m->type == BROKER_VALUE || m->type == BROKER_LASTING || is_printable(data, m->len);
}
