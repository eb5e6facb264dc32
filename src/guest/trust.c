/* SPDX-License-Identifier: Apache-2.0 */
/* Trust stores of the guest.
 *
 * The host sends its own system bundle followed by the sandbox's CA, as PEM. Blocks that the
 * image's bundle lacks ("extras") are appended to it, so the bundle stays what most programs read:
 * OpenSSL, GnuTLS, curl, git, apt, Go, Rust. What does not read it:
 *
 * - update-ca-certificates rebuilds the bundle from files; the extras and the sandbox's CA are two
 *   files below /usr/local/share/ca-certificates, so a rebuild keeps them;
 * - OpenSSL's default directory wants links named by hash; a cert.pem beside it is read as well;
 * - Node has its roots built in and NODE_EXTRA_CA_CERTS adds to them: it names the short file of
 *   extras, since Node parses that file at every start;
 * - Python's requests, pip and others bring certifi: variables name the bundle.
 *
 * Blocks are equal when their base64 text is, line breaks aside. The result is remembered as a hash
 * of what the host sent and the size and time of the bundle: the next start of the same disk does
 * nothing when none of them changed. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLE     "/etc/ssl/certs/ca-certificates.crt"
#define BUNDLE_RPM "/etc/pki/tls/certs/ca-bundle.crt"
#define LOCAL_DIR  "/usr/local/share/ca-certificates"
#define EXTRAS     LOCAL_DIR "/hutch-host.crt"
#define SANDBOX_CA LOCAL_DIR "/hutch-sandbox.crt"
#define STATE      "/var/lib/hutch/trust"
#define BUNDLE_MAX (8u << 20)
#define BLOCKS_MAX 4096

static const char begin_mark[] = "-----BEGIN CERTIFICATE-----";
static const char end_mark[] = "-----END CERTIFICATE-----";

/* A certificate: its whole block, and its base64 text without white space. */
struct block {
	const char *text; /* borrowed, not terminated */
	size_t text_len;
	uint64_t hash;
	size_t body, body_len; /* in blocks.bodies */
};

struct blocks {
	struct block b[BLOCKS_MAX];
	size_t n;
	struct buf bodies;
	uint32_t slots[BLOCKS_MAX * 2]; /* open addressing; index + 1, 0 is free */
};

/* Not for adversaries: equality is always confirmed on the bytes. */
static uint64_t hash_bytes(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = 0x9e3779b97f4a7c15u ^ len, w;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	for (; len; p++, len--)
		h = (h ^ *p) * 0xff51afd7ed558ccdu;
	return h ^ h >> 29;
}

static struct blocks *blocks_new(void)
{
	struct blocks *s = xcalloc(1, sizeof(*s));

	buf_init(&s->bodies, 2 * BUNDLE_MAX);
	return s;
}

static void blocks_free(struct blocks **sp)
{
	if (*sp)
		buf_done(&(*sp)->bodies);
	free(*sp);
}
#define _blocks_ __attribute__((cleanup(blocks_free)))

/* The slot that holds a block equal to @k (whose body is in @from), or the free one for it. */
static uint32_t *blocks_slot(struct blocks *s, const struct blocks *from, const struct block *k)
{
	const uint8_t *body = buf_head(&from->bodies) + k->body;

	for (size_t i = k->hash % ARRAY_SIZE(s->slots);; i = (i + 1) % ARRAY_SIZE(s->slots)) {
		const struct block *b;

		if (!s->slots[i])
			return &s->slots[i];
		b = &s->b[s->slots[i] - 1];
		if (b->hash == k->hash && b->body_len == k->body_len &&
			memcmp(buf_head(&s->bodies) + b->body, body, k->body_len) == 0)
			return &s->slots[i];
	}
}

static bool blocks_have(struct blocks *s, const struct blocks *from, const struct block *k)
{
	return *blocks_slot(s, from, k) != 0;
}

static void blocks_add(struct blocks *s, const char *text, const char *body, const char *end)
{
	struct block b = {.text = text, .body = buf_len(&s->bodies)};
	uint32_t *slot;

	if (s->n == BLOCKS_MAX)
		return;
	b.text_len = (size_t)(end - text) + sizeof(end_mark) - 1;
	while (body < end) {
		const char *ws = body;

		while (ws < end && *ws != '\n' && *ws != '\r' && *ws != ' ')
			ws++;
		if (buf_put(&s->bodies, body, (size_t)(ws - body)) < 0)
			return;
		body = ws + (ws < end);
	}
	b.body_len = buf_len(&s->bodies) - b.body;
	b.hash = hash_bytes(buf_head(&s->bodies) + b.body, b.body_len);
	slot = blocks_slot(s, s, &b);
	if (*slot)
		return;
	s->b[s->n++] = b;
	*slot = (uint32_t)s->n;
}

/* Collect every distinct certificate of @text, which must outlive @s. A begin mark without an end
 * before the next begin is skipped. */
static void blocks_parse(struct blocks *s, struct buf *text)
{
	const char *at = strstr(buf_cstr(text), begin_mark), *end = NULL;

	while (at) {
		const char *body = at + sizeof(begin_mark) - 1, *next = strstr(body, begin_mark);

		if (!end || end < body)
			end = strstr(body, end_mark);
		if (!end)
			return;
		if (!next || next > end)
			blocks_add(s, at, body, end);
		at = next;
	}
}

static void put_block(struct buf *b, const struct block *k)
{
	buf_put(b, k->text, k->text_len);
	buf_puts(b, "\n");
}

static char *state_text(const char *root, const struct buf *pem)
{
	_free_ char *path = xasprintf("%s" BUNDLE, root);
	struct stat st;

	if (stat(path, &st) < 0)
		return NULL;
	return xasprintf("%016llx %zu %lld %lld.%ld\n",
		(unsigned long long)hash_bytes(buf_head(pem), buf_len(pem)), buf_len(pem),
		(long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static bool state_matches(const char *root, const struct buf *pem)
{
	_free_ char *path = xasprintf("%s" STATE, root);
	_free_ char *want = state_text(root, pem);
	_buf_ struct buf have;

	buf_init(&have, 256);
	return want && file_read(path, &have, NULL) == 0 && strcmp(buf_cstr(&have), want) == 0;
}

/* Append to the bundle at @path what it lacks of @sent. @ret_extras, when given, collects the
 * blocks that were not the image's own: missing now, or added by an earlier start. */
static int bundle_extend(const char *root, const char *bundle, struct blocks *sent,
	struct blocks *earlier, struct buf *ret_extras, struct err *err)
{
	_free_ char *path = xasprintf("%s%s", root, bundle);
	_blocks_ struct blocks *own = blocks_new();
	bool changed = false;
	_buf_ struct buf text, made;

	buf_init(&text, BUNDLE_MAX);
	buf_init(&made, 2 * BUNDLE_MAX);
	if (file_read(path, &text, err) < 0 && err->errnum != ENOENT)
		return -1;
	blocks_parse(own, &text);
	buf_put(&made, buf_head(&text), buf_len(&text));
	if (buf_len(&made) && buf_head(&made)[buf_len(&made) - 1] != '\n')
		buf_puts(&made, "\n");
	for (size_t i = 0; i < sent->n; i++) {
		const struct block *k = &sent->b[i];
		bool missing = !blocks_have(own, sent, k);

		if (missing)
			put_block(&made, k);
		if (ret_extras && (missing || blocks_have(earlier, sent, k)))
			put_block(ret_extras, k);
		changed |= missing;
	}
	if (made.failed)
		return err_set(err, ERR_ENV, "%s: too large", bundle);
	if (!changed)
		return 0;
	if (dirs_make_parent(path, 0, 0, err) < 0)
		return -1;
	return file_put(path, buf_head(&made), buf_len(&made), 0644, err);
}

static int write_local(
	const char *root, const struct buf *extras, const struct blocks *sent, struct err *err)
{
	_free_ char *extras_path = xasprintf("%s" EXTRAS, root);
	_free_ char *ca_path = xasprintf("%s" SANDBOX_CA, root);
	_free_ char *ssl = xasprintf("%s/usr/lib/ssl/cert.pem", root);
	_buf_ struct buf ca;

	buf_init(&ca, BUNDLE_MAX);
	put_block(&ca, &sent->b[sent->n - 1]);
	if (dirs_make_parent(extras_path, 0, 0, err) < 0 ||
		file_put(extras_path, buf_head(extras), buf_len(extras), 0644, err) < 0 ||
		file_put(ca_path, buf_head(&ca), buf_len(&ca), 0644, err) < 0)
		return -1;
	/* Fails where the image has the link already or has no OpenSSL: both fine. */
	if (symlink(BUNDLE, ssl) < 0 && errno != EEXIST && errno != ENOENT)
		return err_errno(err, "%s", ssl);
	return 0;
}

static int install(const char *root, struct buf *pem, struct err *err)
{
	_free_ char *extras_path = xasprintf("%s" EXTRAS, root);
	_free_ char *rpm = xasprintf("%s" BUNDLE_RPM, root);
	_free_ char *state_path = xasprintf("%s" STATE, root);
	_free_ char *state = NULL;
	_blocks_ struct blocks *sent = blocks_new(), *earlier = blocks_new();
	_buf_ struct buf old, extras;

	buf_init(&old, BUNDLE_MAX);
	buf_init(&extras, BUNDLE_MAX);
	blocks_parse(sent, pem);
	if (sent->n == 0)
		return err_set(err, ERR_PEER, "no certificate in what the host sent");
	if (file_read(extras_path, &old, NULL) == 0)
		blocks_parse(earlier, &old);
	if (bundle_extend(root, BUNDLE, sent, earlier, &extras, err) < 0 ||
		write_local(root, &extras, sent, err) < 0)
		return -1;
	if (access(rpm, F_OK) == 0 && bundle_extend(root, BUNDLE_RPM, sent, earlier, NULL, err) < 0)
		return -1;
	state = state_text(root, pem);
	if (!state || dirs_make_parent(state_path, 0, 0, err) < 0)
		return err_errno(err, "%s", state_path);
	return file_put_text(state_path, state, 0644, err);
}

int trust_install(const char *root, const struct buf *pem, struct strv *env, struct err *err)
{
	static const char *const names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT",
		"CURL_CA_BUNDLE", "GIT_SSL_CAINFO"};
	struct err local = {0};
	_buf_ struct buf text;

	buf_init(&text, BUNDLE_MAX);
	if (buf_len(pem) == 0)
		return 0;
	if (!state_matches(root, pem)) {
		if (buf_put(&text, buf_head(pem), buf_len(pem)) < 0)
			return err_set(err, ERR_PEER, "certificates: too large");
		if (install(root, &text, &local) < 0) {
			if (err)
				*err = local;
			return err_wrap(err, "certificates");
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		strv_addf(env, "%s=" BUNDLE, names[i]);
	strv_addf(env, "NODE_EXTRA_CA_CERTS=" EXTRAS);
	return 0;
}
