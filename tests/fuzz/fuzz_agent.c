/* SPDX-License-Identifier: Apache-2.0 */
/* The agent protocol: frames, and every payload decoder on each of them. What decodes must survive
 * being encoded and decoded again. */
#include <stdlib.h>
#include <string.h>

#include "wire/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* The payload of the single frame in @b must be the same bytes as @r. */
static void check_same(const struct buf *b, struct rd r)
{
	struct rd again;
	uint8_t type;

	check(agent_next(b, &type, &again) == 1);
	check(rd_left(&again) == rd_left(&r));
	check(memcmp(again.p, r.p, rd_left(&r)) == 0);
}

static void try_setup(struct rd r, struct buf *b)
{
	struct agent_setup s;
	bool canonical = true;

	if (agent_get_setup(r, &s) == 0) {
		/* Any non-zero byte means read-only; the encoder writes 1. */
		for (size_t i = 0; i < s.n_exports; i++)
			canonical &= !s.exports[i].read_only;
		agent_put_setup(b, &s);
		if (canonical)
			check_same(b, r);
	}
	agent_setup_done(&s);
}

static void try_export(struct rd r, struct buf *b)
{
	struct agent_export e;

	if (agent_get_export(r, &e) == 0) {
		agent_put_export(b, &e);
		if (!e.read_only)
			check_same(b, r);
	}
	agent_export_done(&e);
}

static void try_exec(struct rd r, struct buf *b)
{
	struct agent_exec x;

	if (agent_get_exec(r, &x) == 0) {
		agent_put_exec(b, &x);
		check_same(b, r);
	}
	agent_exec_done(&x);
}

static void try_entry(struct rd r, struct buf *b)
{
	struct agent_entry e;

	if (agent_get_entry(r, &e) == 0) {
		check(e.path[0] == '/');
		agent_put_entry(b, &e);
		check_same(b, r);
	}
	agent_entry_done(&e);
}

static void try_answers(struct rd r, struct buf *b)
{
	uint32_t num, sig, starved;
	uint16_t port;
	char *text;

	if (agent_get_error(r, &num, &text) == 0) {
		agent_put_error(b, num, text);
		check_same(b, r);
		free(text);
	}
	buf_reset(b);
	if (agent_get_exit(r, &num, &sig, &starved) == 0) {
		agent_put_exit(b, num, sig, starved);
		check_same(b, r);
	}
	buf_reset(b);
	if (agent_get_port(r, &port) == 0) {
		check(port != 0);
		agent_put_port(b, AGENT_DIAL_UDP, port);
		check_same(b, r);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[])(struct rd, struct buf *) = {
		try_setup, try_export, try_exec, try_entry, try_answers};
	struct rd payload;
	uint8_t type;
	_buf_ struct buf in, out;

	buf_init(&in, 1u << 20);
	buf_init(&out, 1u << 20);
	if (buf_put(&in, data, size) < 0)
		return 0;
	while (agent_next(&in, &type, &payload) == 1) {
		check(rd_left(&payload) <= AGENT_PAYLOAD_MAX);
		for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
			buf_reset(&out);
			tries[i](payload, &out);
		}
		agent_consume(&in);
	}
	return 0;
}
