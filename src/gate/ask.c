/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the user. */
#include "gate/ask.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"

#define FILE_NAME     "pending.json"
#define FILE_TMP      ".pending.json.tmp"
#define WRITE_MS      300u /* between two writes of the file */
#define NEW_EVERY_NS  2000000000ull
#define NEW_BURST     8u /* questions that may come at once */
#define DISMISSED_MAX 256u
#define APPROVED_MAX  256u
#define APPROVED_FROM "user, until it stops"

struct question {
	char id[ASK_ID_SIZE];
	char rule[POLICY_TARGET_MAX];
	unsigned times;
	time_t first, last;
};

struct asks {
	struct loop *loop;
	int dirfd;
	ask_fn *tell;
	void *arg;
	struct question open[ASK_MAX]; /* the oldest first */
	size_t n;
	char dismissed[DISMISSED_MAX][ASK_ID_SIZE]; /* a ring */
	size_t n_dismissed;
	struct strv approved;
	uint64_t bucket_ns; /* when the next new question would find the bucket empty */
	unsigned long unasked;
	struct loop_timer timer; /* the file is out of date */
	bool dirty;
};

static void make_id(const char *rule, char ret[static ASK_ID_SIZE])
{
	struct sha256 s;
	char hex[SHA256_HEX];

	sha256_init(&s);
	sha256_add(&s, rule, strlen(rule));
	sha256_hex(&s, hex);
	snprintf(ret, ASK_ID_SIZE, "%.8s", hex);
}

struct asks *asks_new(struct loop *l, int dirfd, ask_fn *tell, void *arg)
{
	struct asks *a = xcalloc(1, sizeof(*a));

	a->loop = l;
	a->dirfd = dirfd;
	a->tell = tell;
	a->arg = arg;
	unlinkat(dirfd, FILE_NAME, 0);
	return a;
}

/* ---- the file ---- */

static json_t *questions_json(const struct asks *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < a->n; i++)
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:I, s:I, s:I}", "id", a->open[i].id, "rule",
				a->open[i].rule, "times", (json_int_t)a->open[i].times, "first",
				(json_int_t)a->open[i].first, "last", (json_int_t)a->open[i].last));
	return json_pack("{s:i, s:o, s:I}", "version", 1, "questions", list, "unasked",
		(json_int_t)a->unasked);
}

/* Whole or not at all for whoever reads it; nobody minds when a crash loses it, so no fsync. */
static void write_file(struct asks *a)
{
	json_t *j = questions_json(a);
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	_close_ int fd = openat(
		a->dirfd, FILE_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	a->dirty = false;
	if (!text || fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 ||
		renameat(a->dirfd, FILE_TMP, a->dirfd, FILE_NAME) < 0)
		log_limited(LOG_ERROR, "questions cannot be written");
	free(text);
	json_decref(j);
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
	struct asks *a = container_of(t, struct asks, timer);

	if (!a->dirty)
		return;
	write_file(a);
	loop_timer_start(l, t, WRITE_MS, on_timer); /* counts are gathered meanwhile */
}

static void changed(struct asks *a)
{
	a->dirty = true;
	if (!a->timer.due_ns)
		loop_timer_start(a->loop, &a->timer, 0, on_timer);
}

void asks_free(struct asks *a)
{
	if (!a)
		return;
	if (a->dirty)
		write_file(a);
	loop_timer_stop(a->loop, &a->timer);
	strv_done(&a->approved);
	free(a);
}

/* ---- asking ---- */

static struct question *find_rule(const struct asks *a, const char *rule)
{
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->open[i].rule, rule) == 0)
			return (struct question *)(uintptr_t)&a->open[i];
	return NULL;
}

static bool is_dismissed(const struct asks *a, const char *id)
{
	for (size_t i = 0; i < MIN(a->n_dismissed, (size_t)DISMISSED_MAX); i++)
		if (strcmp(a->dismissed[i], id) == 0)
			return true;
	return false;
}

static bool take_token(struct asks *a)
{
	uint64_t now = loop_now(a->loop), full = NEW_BURST * NEW_EVERY_NS;

	if (a->bucket_ns > now + full - NEW_EVERY_NS)
		return false;
	a->bucket_ns = MAX(a->bucket_ns, now) + NEW_EVERY_NS;
	return true;
}

const char *asks_find(const struct asks *a, const char *rule)
{
	struct question *q = find_rule(a, rule);

	return q ? q->id : NULL;
}

const char *asks_note(struct asks *a, const char *rule)
{
	struct question *q = find_rule(a, rule);
	char id[ASK_ID_SIZE];

	if (!q) {
		make_id(rule, id);
		if (is_dismissed(a, id))
			return NULL;
		if (a->n == ASK_MAX || !take_token(a)) {
			a->unasked++;
			changed(a);
			return NULL;
		}
		q = &a->open[a->n++];
		*q = (struct question){.first = time(NULL)};
		memcpy(q->id, id, sizeof(id));
		snprintf(q->rule, sizeof(q->rule), "%s", rule);
		a->tell(a->arg, q->id, q->rule);
	}
	q->times++;
	q->last = time(NULL);
	changed(a);
	return q->id;
}

/* ---- answers ---- */

static void forget(struct asks *a, struct question *q)
{
	size_t i = (size_t)(q - a->open);

	memmove(q, q + 1, (a->n - i - 1) * sizeof(*q));
	a->n--;
	changed(a);
}

/* Whether @p says yes or no to what the question's own rule is about. */
static bool is_answered(const struct policy *p, const struct question *q)
{
	struct policy_rule rule;
	bool answered = false;

	if (policy_rule_parse(q->rule, &rule, NULL) < 0)
		return true;
	for (size_t i = 0; i < p->n && !answered; i++)
		answered = policy_rule_covers(&p->rules[i], &rule);
	policy_rule_done(&rule);
	return answered;
}

void asks_apply(struct asks *a, struct policy *p)
{
	for (size_t i = 0; i < a->approved.n; i++)
		policy_add(p, a->approved.v[i], true, APPROVED_FROM, NULL);
	for (size_t i = a->n; i > 0; i--)
		if (is_answered(p, &a->open[i - 1]))
			forget(a, &a->open[i - 1]);
}

static void approve(struct asks *a, struct question *q, struct policy *p)
{
	if (a->approved.n < APPROVED_MAX && policy_add(p, q->rule, true, APPROVED_FROM, NULL) == 0)
		strv_add(&a->approved, q->rule);
	forget(a, q);
}

static void dismiss(struct asks *a, struct question *q)
{
	memcpy(a->dismissed[a->n_dismissed++ % DISMISSED_MAX], q->id, sizeof(q->id));
	forget(a, q);
}

bool asks_answer(struct asks *a, const char *line, size_t len, struct policy *p)
{
	json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(j, "op"));
	const char *id = json_string_value(json_object_get(j, "id"));
	bool yes = op && strcmp(op, "approve") == 0, no = op && strcmp(op, "dismiss") == 0;

	for (size_t i = 0; (yes || no) && id && i < a->n; i++) {
		if (strcmp(a->open[i].id, id) != 0)
			continue;
		if (yes)
			approve(a, &a->open[i], p);
		else
			dismiss(a, &a->open[i]);
		break;
	}
	json_decref(j);
	return yes || no;
}
