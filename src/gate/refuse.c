/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of our own. */
#include "gate/refuse.h"

#include <string.h>

#include <jansson.h>

#include "base/mem.h"

static const char *status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 414:
		return "URI Too Long";
	case 431:
		return "Request Header Fields Too Large";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Refused";
	}
}

static const char *title(const struct refusal *r)
{
	if (strcmp(r->code, "policy") == 0)
		return "blocked by hutch policy";
	if (strcmp(r->code, "identity") == 0)
		return "blocked by hutch: the request contradicts its own destination";
	if (strcmp(r->code, "credential") == 0)
		return "stopped by hutch: no usable credential";
	if (strcmp(r->code, "upstream") == 0)
		return "hutch could not reach the destination";
	return "hutch could not read the request";
}

static void put_text(struct buf *b, const struct refusal *r)
{
	buf_printf(b, "%s\n\n  destination: %s:%u\n  reason:      %s\n", title(r), r->host, r->port,
		r->reason);
	if (r->rule)
		buf_printf(b, "  rule:        %s\n", r->rule);
	if (r->remedy)
		buf_printf(b, "  remedy:      %s\n", r->remedy);
	if (r->ask)
		buf_printf(b,
			"  ask:         your user can allow it with: hutch policy approve %s/%s\n",
			r->box, r->ask);
	if (r->status == 403)
		buf_puts(b, "\nNothing was sent. Trying again or another way round gives the same "
			    "answer until the user changes it.\n");
	if (r->ask)
		buf_puts(
			b, "Tell your user what you need it for, and go on with something else.\n");
}

static void set(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

static void put_json(struct buf *b, const struct refusal *r)
{
	json_t *o = json_object();
	char *text;

	set(o, "error", title(r));
	set(o, "code", r->code);
	set(o, "host", r->host);
	json_object_set_new(o, "port", json_integer(r->port));
	set(o, "reason", r->reason);
	set(o, "rule", r->rule);
	set(o, "allow", r->remedy);
	if (r->ask)
		json_object_set_new(
			o, "approve", json_sprintf("hutch policy approve %s/%s", r->box, r->ask));
	text = json_dumps(o, JSON_ENSURE_ASCII);
	json_decref(o);
	if (text)
		buf_printf(b, "%s\n", text);
	free(text);
}

void refuse_body(struct buf *body, const struct refusal *r, bool json)
{
	if (json)
		put_json(body, r);
	else
		put_text(body, r);
}

const char *refuse_content_type(bool json)
{
	return json ? "application/json; charset=utf-8" : "text/plain; charset=utf-8";
}

void refuse_write(struct buf *out, const struct refusal *r, bool json, bool head_only)
{
	_buf_ struct buf body;

	buf_init(&body, REFUSE_BODY_MAX);
	refuse_body(&body, r, json);
	buf_printf(out,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		"X-Hutch-Refused: %s\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
		r->status, status_text(r->status), refuse_content_type(json), buf_len(&body),
		r->code);
	if (!head_only)
		buf_put(out, buf_head(&body), buf_len(&body));
}
