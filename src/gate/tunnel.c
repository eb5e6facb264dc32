/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that pass untouched. */
#include "gate/flow.h"

#define DELIVER_MS 60000u /* for the last bytes of a guest that has gone */

/* Whether this end will neither give nor take anything more. */
static bool over(const struct stream *s)
{
	return s->eof && buf_len(&s->in) == 0 && (s->fin_sent || s->write_failed);
}

static bool pass(struct stream *from, struct stream *to, uint64_t *bytes)
{
	size_t before = buf_len(&from->in);
	bool moved = false;

	if (to->write_failed && before > 0) {
		buf_consume(&from->in, before); /* nobody takes it any more */
		return true;
	}
	/* Only whole buffers change hands: never more than two steps of content per direction. */
	if (buf_len(&to->out) == 0)
		moved = stream_move(&from->in, &to->out);
	*bytes += before - buf_len(&from->in);
	/* After an error the other side must not see an orderly end. */
	if (from->eof && !from->read_failed && buf_len(&from->in) == 0 && !to->fin) {
		to->fin = true;
		moved = true;
	}
	return moved;
}

bool tunnel_step(struct flow *f)
{
	bool moved;

	if (f->dial_failed) {
		flow_explain_unreached(f);
		return true;
	}
	moved = pass(&f->guest, &f->up, &f->bytes_up);
	if (!f->answered_ns && buf_len(&f->up.in) > 0)
		f->answered_ns = loop_now(f->gate->loop);
	moved |= pass(&f->up, &f->guest, &f->bytes_down);
	if (f->up.read_failed && buf_len(&f->up.in) == 0 && buf_len(&f->guest.out) == 0) {
		flow_reset(f, AUDIT_ERROR, "server: %s", f->up.err.msg);
		return true;
	}
	/* A guest that is gone cannot be answered; what it has sent is still delivered. */
	if ((over(&f->guest) && over(&f->up)) ||
		(stream_gone(&f->guest) && f->guest.eof && buf_len(&f->guest.in) == 0 &&
			(f->up.write_failed || (f->up.fd >= 0 && buf_len(&f->up.out) == 0)))) {
		flow_close(f);
		return true;
	}
	if (stream_gone(&f->guest) && !f->deadline_ns)
		flow_deadline(f, DELIVER_MS);
	return moved;
}
