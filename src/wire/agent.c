/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent protocol: encode and decode. */
#include "wire/agent.h"

#include <string.h>

size_t agent_frame_begin(struct buf *b, enum agent_type type)
{
	size_t mark = buf_len(b);

	buf_put_le32(b, 0);
	buf_put_u8(b, (uint8_t)type);
	return mark;
}

void agent_frame_end(struct buf *b, size_t mark)
{
	size_t len;

	if (b->failed)
		return;
	len = buf_len(b) - mark - AGENT_HEADER;
	if (len > AGENT_PAYLOAD_MAX) {
		b->failed = true;
		return;
	}
	for (int i = 0; i < 4; i++)
		buf_head(b)[mark + (size_t)i] = (uint8_t)(len >> (8 * i));
}

int agent_put(struct buf *b, enum agent_type type, const void *payload, size_t len)
{
	size_t mark = agent_frame_begin(b, type);

	buf_put(b, payload, len);
	agent_frame_end(b, mark);
	return b->failed ? -1 : 0;
}

void agent_put_string(struct buf *b, const char *s)
{
	size_t len = s ? strlen(s) : 0;

	buf_put_le32(b, (uint32_t)len);
	buf_put(b, s, len);
}

void agent_put_strv(struct buf *b, const struct strv *l)
{
	buf_put_le32(b, (uint32_t)l->n);
	for (size_t i = 0; i < l->n; i++)
		agent_put_string(b, l->v[i]);
}

static void put_export_body(struct buf *b, const struct agent_export *e)
{
	agent_put_string(b, e->name);
	agent_put_string(b, e->path);
	buf_put_u8(b, e->read_only);
}

void agent_put_setup(struct buf *b, const struct agent_setup *s)
{
	size_t mark = agent_frame_begin(b, AGENT_SETUP);

	agent_put_string(b, s->hostname);
	buf_put_le64(b, s->clock_ns);
	buf_put_le32(b, (uint32_t)s->n_exports);
	for (size_t i = 0; i < s->n_exports; i++)
		put_export_body(b, &s->exports[i]);
	agent_put_strv(b, &s->env);
	agent_frame_end(b, mark);
}

void agent_put_export(struct buf *b, const struct agent_export *e)
{
	size_t mark = agent_frame_begin(b, AGENT_EXPORT);

	put_export_body(b, e);
	agent_frame_end(b, mark);
}

void agent_put_exec(struct buf *b, const struct agent_exec *e)
{
	size_t mark = agent_frame_begin(b, AGENT_EXEC);

	buf_put_le32(b, e->flags);
	buf_put_le16(b, e->rows);
	buf_put_le16(b, e->cols);
	agent_put_string(b, e->user);
	agent_put_string(b, e->cwd);
	agent_put_strv(b, &e->argv);
	agent_put_strv(b, &e->env);
	agent_frame_end(b, mark);
}

void agent_put_entry(struct buf *b, const struct agent_entry *e)
{
	size_t mark = agent_frame_begin(b, AGENT_ENTRY);

	buf_put_u8(b, e->kind);
	buf_put_u8(b, e->flags);
	buf_put_le16(b, e->mode);
	buf_put_le32(b, e->uid);
	buf_put_le32(b, e->gid);
	buf_put_le64(b, e->size);
	agent_put_string(b, e->path);
	agent_put_string(b, e->target);
	agent_frame_end(b, mark);
}

void agent_put_error(struct buf *b, uint32_t errnum, const char *text)
{
	size_t mark = agent_frame_begin(b, AGENT_ERROR);

	buf_put_le32(b, errnum);
	agent_put_string(b, text);
	agent_frame_end(b, mark);
}

void agent_put_exit(struct buf *b, uint32_t code, uint32_t sig, uint32_t starved)
{
	size_t mark = agent_frame_begin(b, AGENT_EXIT);

	buf_put_le32(b, code);
	buf_put_le32(b, sig);
	buf_put_le32(b, starved);
	agent_frame_end(b, mark);
}

void agent_put_port(struct buf *b, enum agent_type type, uint16_t port)
{
	size_t mark = agent_frame_begin(b, type);

	buf_put_le16(b, port);
	agent_frame_end(b, mark);
}

int agent_next(const struct buf *b, uint8_t *ret_type, struct rd *ret_payload)
{
	struct rd r = rd_make(buf_head(b), buf_len(b));
	uint32_t len;

	if (buf_len(b) < AGENT_HEADER)
		return 0;
	len = rd_le32(&r);
	if (len > AGENT_PAYLOAD_MAX)
		return -1;
	if (buf_len(b) < AGENT_HEADER + len)
		return 0;
	*ret_type = rd_u8(&r);
	*ret_payload = rd_sub(&r, len);
	return 1;
}

void agent_consume(struct buf *b)
{
	struct rd r = rd_make(buf_head(b), buf_len(b));

	buf_consume(b, AGENT_HEADER + (size_t)rd_le32(&r));
}

char *agent_get_string(struct rd *r)
{
	uint32_t len = rd_le32(r);
	const uint8_t *p = rd_bytes(r, len);

	if (!p || !rd_ok(r)) /* a length that was cut short reads as 0 */
		return NULL;
	if (len && memchr(p, '\0', len)) {
		r->bad = true;
		return NULL;
	}
	return xstrndup((const char *)p, len);
}

int agent_get_strv(struct rd *r, struct strv *l)
{
	uint32_t n = rd_le32(r);

	if (n > AGENT_LIST_MAX)
		r->bad = true;
	for (uint32_t i = 0; i < n && rd_ok(r); i++) {
		char *s = agent_get_string(r);

		if (s)
			strv_take(l, s);
	}
	return rd_ok(r) ? 0 : -1;
}

static void get_export_body(struct rd *r, struct agent_export *e)
{
	e->name = agent_get_string(r);
	e->path = agent_get_string(r);
	e->read_only = rd_u8(r) != 0;
}

int agent_get_setup(struct rd r, struct agent_setup *s)
{
	uint32_t n;

	*s = (struct agent_setup){0};
	s->hostname = agent_get_string(&r);
	s->clock_ns = rd_le64(&r);
	n = rd_le32(&r);
	if (!rd_ok(&r) || n > AGENT_LIST_MAX)
		return -1;
	s->exports = xcalloc(n, sizeof(*s->exports));
	for (; s->n_exports < n && rd_ok(&r); s->n_exports++)
		get_export_body(&r, &s->exports[s->n_exports]);
	agent_get_strv(&r, &s->env);
	return rd_done(&r) ? 0 : -1;
}

int agent_get_export(struct rd r, struct agent_export *e)
{
	*e = (struct agent_export){0};
	get_export_body(&r, e);
	return rd_done(&r) ? 0 : -1;
}

int agent_get_exec(struct rd r, struct agent_exec *e)
{
	*e = (struct agent_exec){0};
	e->flags = rd_le32(&r);
	e->rows = rd_le16(&r);
	e->cols = rd_le16(&r);
	e->user = agent_get_string(&r);
	e->cwd = agent_get_string(&r);
	agent_get_strv(&r, &e->argv);
	agent_get_strv(&r, &e->env);
	return rd_done(&r) ? 0 : -1;
}

int agent_get_entry(struct rd r, struct agent_entry *e)
{
	*e = (struct agent_entry){0};
	e->kind = rd_u8(&r);
	e->flags = rd_u8(&r);
	e->mode = rd_le16(&r);
	e->uid = rd_le32(&r);
	e->gid = rd_le32(&r);
	e->size = rd_le64(&r);
	e->path = agent_get_string(&r);
	e->target = agent_get_string(&r);
	return rd_done(&r) && e->path[0] == '/' ? 0 : -1;
}

int agent_get_error(struct rd r, uint32_t *ret_errnum, char **ret_text)
{
	uint32_t errnum = rd_le32(&r);
	char *text = agent_get_string(&r);

	if (!rd_done(&r)) {
		free(text);
		return -1;
	}
	*ret_errnum = errnum;
	*ret_text = text;
	return 0;
}

int agent_get_exit(struct rd r, uint32_t *ret_code, uint32_t *ret_sig, uint32_t *ret_starved)
{
	uint32_t code = rd_le32(&r), sig = rd_le32(&r), starved = rd_le32(&r);

	if (!rd_done(&r))
		return -1;
	*ret_code = code;
	*ret_sig = sig;
	*ret_starved = starved;
	return 0;
}

int agent_get_port(struct rd r, uint16_t *ret)
{
	uint16_t port = rd_le16(&r);

	if (!rd_done(&r) || port == 0)
		return -1;
	*ret = port;
	return 0;
}

void agent_setup_done(struct agent_setup *s)
{
	free(s->hostname);
	for (size_t i = 0; i < s->n_exports; i++)
		agent_export_done(&s->exports[i]);
	free(s->exports);
	strv_done(&s->env);
	*s = (struct agent_setup){0};
}

void agent_export_done(struct agent_export *e)
{
	free(e->name);
	free(e->path);
	*e = (struct agent_export){0};
}

void agent_exec_done(struct agent_exec *e)
{
	free(e->user);
	free(e->cwd);
	strv_done(&e->argv);
	strv_done(&e->env);
	*e = (struct agent_exec){0};
}

void agent_entry_done(struct agent_entry *e)
{
	free(e->path);
	free(e->target);
	*e = (struct agent_entry){0};
}
