/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log's chain. */
#include "wire/chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define HEX (SHA256_HEX - 1)

void chain_init(struct chain *c)
{
	c->seq = 0;
	memset(c->hash, '0', HEX);
	c->hash[HEX] = '\0';
}

static void hash_line(const char *before, const void *text, size_t len, char ret[static SHA256_HEX])
{
	struct sha256 s;

	sha256_init(&s);
	sha256_add(&s, before, HEX);
	sha256_add(&s, text, len);
	sha256_hex(&s, ret);
}

void chain_seal(struct chain *c, bool first, struct buf *line)
{
	buf_printf(line, ",\"seq\":%" PRIu64, c->seq + 1);
	if (first)
		buf_printf(line, ",\"prev\":\"%s\"", c->hash);
	if (line->failed)
		return;
	hash_line(c->hash, buf_head(line), buf_len(line), c->hash);
	c->seq++;
	buf_printf(line, ",\"hash\":\"%s\"}\n", c->hash);
}

/* Take `@key"<hash>"` off the end of @line. Returns the new length, or 0. */
static size_t take_hash(const char *line, size_t len, const char *key, char ret[static SHA256_HEX])
{
	size_t klen = strlen(key), at;

	if (len < klen + HEX + 2 || line[len - 1] != '"')
		return 0;
	at = len - 1 - HEX;
	memcpy(ret, line + at, HEX);
	ret[HEX] = '\0';
	if (strspn(ret, "0123456789abcdef") != HEX || line[at - 1] != '"' ||
		memcmp(line + at - 1 - klen, key, klen) != 0)
		return 0;
	return at - 1 - klen;
}

static int take_seq(const char *line, size_t len, uint64_t *ret)
{
	static const char key[] = ",\"seq\":";
	size_t at = len;
	uint64_t v = 0;

	while (at > 0 && len - at < 19 && line[at - 1] >= '0' && line[at - 1] <= '9')
		at--;
	if (at == len || at < sizeof(key) - 1 || (line[at] == '0') ||
		memcmp(line + at - (sizeof(key) - 1), key, sizeof(key) - 1) != 0)
		return -1;
	for (size_t i = at; i < len; i++)
		v = v * 10 + (uint64_t)(line[i] - '0');
	*ret = v;
	return 0;
}

int chain_parse(const char *line, size_t len, struct chain_line *ret)
{
	struct chain_line l = {.text = line};
	size_t before;

	if (len < 2 || line[0] != '{' || line[len - 1] != '}')
		return -1;
	l.len = take_hash(line, len - 1, ",\"hash\":", l.hash);
	if (!l.len)
		return -1;
	before = take_hash(line, l.len, ",\"prev\":", l.prev);
	l.first = before > 0;
	if (take_seq(line, l.first ? before : l.len, &l.seq) < 0)
		return -1;
	*ret = l;
	return 0;
}

bool chain_follows(const struct chain *c, const struct chain_line *l)
{
	char hash[SHA256_HEX];

	if (l->seq != c->seq + 1 || (l->first && strcmp(l->prev, c->hash) != 0))
		return false;
	hash_line(c->hash, l->text, l->len, hash);
	return strcmp(hash, l->hash) == 0;
}

void chain_step(struct chain *c, const struct chain_line *l)
{
	c->seq = l->seq;
	memcpy(c->hash, l->hash, sizeof(c->hash));
}

void chain_head_text(const struct chain *c, char ret[static CHAIN_HEAD_SIZE + 1])
{
	int n = snprintf(ret, CHAIN_HEAD_SIZE + 1, "{\"seq\":%20" PRIu64 ",\"hash\":\"%s\"}",
		c->seq, c->hash);

	/* One size: it is written over the old one in one go. */
	for (size_t i = n < 0 ? 0 : (size_t)n; i < CHAIN_HEAD_SIZE - 1; i++)
		ret[i] = ' ';
	ret[CHAIN_HEAD_SIZE - 1] = '\n';
	ret[CHAIN_HEAD_SIZE] = '\0';
}

int chain_head_parse(const char *text, size_t len, struct chain *ret)
{
	char copy[CHAIN_HEAD_SIZE + 1], again[CHAIN_HEAD_SIZE + 1];
	struct chain c;

	if (len != CHAIN_HEAD_SIZE || memchr(text, '\0', len))
		return -1;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, "{\"seq\":%20" SCNu64 ",\"hash\":\"%64[0-9a-f]\"}", &c.seq, c.hash) != 2 ||
		strlen(c.hash) != HEX)
		return -1;
	chain_head_text(&c, again);
	if (strcmp(copy, again) != 0)
		return -1;
	*ret = c;
	return 0;
}

int chain_check_line(
	struct chain_check *c, const char *line, size_t len, bool file_start, struct err *err)
{
	struct chain_line l;

	if (chain_parse(line, len, &l) < 0)
		return err_set(err, ERR_PEER, "not a line of this log, or cut short");
	if (l.first != file_start)
		return err_set(err, ERR_PEER,
			l.first ? "the file begins anew within" : "lines before it are missing");
	if (c->lines == 0 && !c->older)
		chain_init(&c->at);
	if (c->lines == 0 && c->older) {
		c->at.seq = l.seq - 1;
		memcpy(c->at.hash, l.prev, sizeof(l.prev));
	}
	if (l.seq != c->at.seq + 1)
		return err_set(err, ERR_PEER,
			"lines are missing or moved: number %" PRIu64 " follows number %" PRIu64,
			l.seq, c->at.seq);
	if (!chain_follows(&c->at, &l))
		return err_set(err, ERR_PEER, "this line or the one before it has been changed");
	c->last[c->at.seq % ARRAY_SIZE(c->last)] = c->at;
	chain_step(&c->at, &l);
	c->last[c->at.seq % ARRAY_SIZE(c->last)] = c->at;
	c->lines++;
	return 0;
}

int chain_check_end(const struct chain_check *c, const struct chain *head, struct err *err)
{
	const struct chain *told;

	if (!head && c->lines == 0)
		return 0;
	if (!head)
		return err_set(
			err, ERR_PEER, "the head that tells the last line is missing or broken");
	if (c->lines == 0 && head->seq > 0)
		return err_set(err, ERR_PEER, "all %" PRIu64 " lines are missing", head->seq);
	if (head->seq > c->at.seq)
		return err_set(err, ERR_PEER, "the last %" PRIu64 " lines are missing",
			head->seq - c->at.seq);
	/* A crash between lines and head, see above. */
	if (c->lines == 0)
		return 0;
	told = &c->last[head->seq % ARRAY_SIZE(c->last)];
	if (told->seq != head->seq || strcmp(head->hash, told->hash) != 0)
		return err_set(err, ERR_PEER, "the end is not the one that the head tells");
	return 0;
}
