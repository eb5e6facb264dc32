/* SPDX-License-Identifier: Apache-2.0 */
/* Trust stores of the guest.
 *
 * The host sends its own system bundle followed by the sandbox's CA, as PEM. Blocks that the
 * image's bundle lacks ("extras") are appended to it, so the bundle stays what most programs read:
 * OpenSSL, GnuTLS, curl, git, apt, Go, Rust. Images have it in other places, or none: it is made at
 * Debian's, which the variables name, of the first of the others, which are extended, too. What does
 * not read it:
 *
 * - update-ca-certificates rebuilds the bundle from files; the extras and the sandbox's CA are two
 *   files below /usr/local/share/ca-certificates, so a rebuild keeps them;
 * - OpenSSL's default directory wants links named by hash; a cert.pem beside it is read as well, at
 *   Debian's place and at everybody's;
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
#define LOCAL_DIR  "/usr/local/share/ca-certificates"
#define EXTRAS     LOCAL_DIR "/hutch-host.crt"
#define SANDBOX_CA LOCAL_DIR "/hutch-sandbox.crt"
#define STATE      "/var/lib/hutch/trust"
#define BUNDLE_MAX (8u << 20)
#define BLOCKS_MAX 4096
#define BODY_MAX   16384 /* base64 bytes of one certificate */

/* Where other systems have it; in the order of find_ca() in src/archive/flatten.c, for what is in the
 * first of them is not sent. */
static const char *const other_bundles[] = {
	"/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

static const char begin_mark[] = "-----BEGIN CERTIFICATE-----";
static const char end_mark[] = "-----END CERTIFICATE-----";

/* A certificate: its whole block, and the hash of its base64 text. */
struct block {
	const char *text; /* borrowed, not terminated; from the begin mark */
	size_t text_len;  /* to the end of the end mark */
	uint64_t hash;
};

/* Distinct certificates. */
struct blocks {
	struct block b[BLOCKS_MAX];
	size_t n;
	uint32_t slots[BLOCKS_MAX * 2]; /* open addressing; index + 1, 0 is free */
};

/* Not for adversaries: equality is always confirmed on the bytes. */
static uint64_t hash_bytes(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = 0x9e3779b97f4a7c15u, w;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	for (; len; p++, len--)
		h = (h ^ *p) * 0xff51afd7ed558ccdu;
	return h;
}

/* The base64 text of @k without white space, into @to. Its length, or 0 when it has no place. */
static size_t block_body(const struct block *k, char to[static BODY_MAX])
{
	const char *at = k->text + sizeof(begin_mark) - 1;
	const char *end = k->text + k->text_len - (sizeof(end_mark) - 1);
	size_t len = 0;

	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t n = (size_t)((nl ? nl : end) - at);

		while (n && (at[n - 1] == '\r' || at[n - 1] == ' '))
			n--;
		if (n > BODY_MAX - len)
			return 0;
		memcpy(to + len, at, n);
		len += n;
		at = nl ? nl + 1 : end;
	}
	return len;
}

static bool block_equal(const struct block *a, const struct block *b)
{
	char x[BODY_MAX], y[BODY_MAX];
	size_t n;

	if (a->hash != b->hash)
		return false;
	n = block_body(a, x);
	return n && n == block_body(b, y) && memcmp(x, y, n) == 0;
}

/* The slot that holds a block equal to @k, or the free one for it. */
static uint32_t *blocks_slot(struct blocks *s, const struct block *k)
{
	for (size_t i = k->hash % ARRAY_SIZE(s->slots);; i = (i + 1) % ARRAY_SIZE(s->slots))
		if (!s->slots[i] || block_equal(&s->b[s->slots[i] - 1], k))
			return &s->slots[i];
}

static bool blocks_have(struct blocks *s, const struct block *k)
{
	return *blocks_slot(s, k) != 0;
}

static void blocks_add(struct blocks *s, const char *text, const char *end)
{
	struct block b = {.text = text};
	char body[BODY_MAX];
	uint32_t *slot;
	size_t n;

	b.text_len = (size_t)(end - text) + sizeof(end_mark) - 1;
	n = block_body(&b, body);
	if (s->n == BLOCKS_MAX || n == 0)
		return;
	b.hash = hash_bytes(body, n);
	slot = blocks_slot(s, &b);
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
			blocks_add(s, at, end);
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

/* The image's own bundle, where it is not at Debian's place. */
static void read_other(const char *root, struct buf *to)
{
	for (size_t i = 0; i < ARRAY_SIZE(other_bundles) && !buf_len(to); i++) {
		_free_ char *path = xasprintf("%s%s", root, other_bundles[i]);

		if (file_read(path, to, NULL) < 0)
			buf_reset(to);
	}
}

/* Append to the bundle at @path what it lacks of @sent. @ret_extras, when given, collects the
 * blocks that were not the image's own: missing now, or added by an earlier start. */
static int bundle_extend(const char *root, const char *bundle, struct blocks *sent,
	struct blocks *earlier, struct buf *ret_extras, struct err *err)
{
	_free_ char *path = xasprintf("%s%s", root, bundle);
	_free_ struct blocks *own = xcalloc(1, sizeof(*own));
	bool is_new = false;
	size_t had;
	_buf_ struct buf text;

	/* All of its memory now (untouched pages cost nothing): @own points into it, so it must
	 * not move when blocks are appended. */
	buf_init(&text, BUNDLE_MAX);
	buf_reserve(&text, BUNDLE_MAX);
	if (file_read(path, &text, err) < 0) {
		if (err->errnum != ENOENT)
			return -1;
		read_other(root, &text);
		is_new = true;
	}
	had = buf_len(&text);
	blocks_parse(own, &text);
	if (had && buf_head(&text)[had - 1] != '\n')
		buf_puts(&text, "\n");
	for (size_t i = 0; i < sent->n; i++) {
		const struct block *k = &sent->b[i];
		bool missing = !blocks_have(own, k);

		if (missing)
			put_block(&text, k);
		if (ret_extras && (missing || blocks_have(earlier, k)))
			put_block(ret_extras, k);
	}
	if (text.failed)
		return err_set(err, ERR_ENV, "%s: too large", bundle);
	if (buf_len(&text) <= had + 1 && !is_new)
		return 0; /* nothing but a line end */
	if (dirs_make_parent(path, 0, 0, err) < 0)
		return -1;
	return file_put(path, buf_head(&text), buf_len(&text), 0644, err);
}

static int write_local(
	const char *root, const struct buf *extras, const struct blocks *sent, struct err *err)
{
	_free_ char *extras_path = xasprintf("%s" EXTRAS, root);
	_free_ char *ca_path = xasprintf("%s" SANDBOX_CA, root);
	static const char *const defaults[] = {"/usr/lib/ssl/cert.pem", "/etc/ssl/cert.pem"};
	_buf_ struct buf ca;

	buf_init(&ca, BUNDLE_MAX);
	put_block(&ca, &sent->b[sent->n - 1]);
	if (dirs_make_parent(extras_path, 0, 0, err) < 0 ||
		file_put(extras_path, buf_head(extras), buf_len(extras), 0644, err) < 0 ||
		file_put(ca_path, buf_head(&ca), buf_len(&ca), 0644, err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		_free_ char *ssl = xasprintf("%s%s", root, defaults[i]);

		/* Fails where the image has the link already or has no OpenSSL: both fine. */
		if (symlink(BUNDLE, ssl) < 0 && errno != EEXIST && errno != ENOENT)
			return err_errno(err, "%s", ssl);
	}
	return 0;
}

static int install(const char *root, struct buf *pem, struct err *err)
{
	_free_ char *extras_path = xasprintf("%s" EXTRAS, root);
	_free_ char *state_path = xasprintf("%s" STATE, root);
	_free_ char *state = NULL;
	_free_ struct blocks *sent = xcalloc(1, sizeof(*sent));
	_free_ struct blocks *earlier = xcalloc(1, sizeof(*earlier));
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
	for (size_t i = 0; i < ARRAY_SIZE(other_bundles); i++) {
		_free_ char *path = xasprintf("%s%s", root, other_bundles[i]);

		if (access(path, F_OK) == 0 &&
			bundle_extend(root, other_bundles[i], sent, earlier, NULL, err) < 0)
			return -1;
	}
	state = state_text(root, pem);
	if (!state || dirs_make_parent(state_path, 0, 0, err) < 0)
		return err_errno(err, "%s", state_path);
	return file_put_text(state_path, state, 0644, err);
}

int trust_files(const char *root, struct buf *pem, struct err *err)
{
	struct err local = {0};

	if (buf_len(pem) == 0 || state_matches(root, pem) || install(root, pem, &local) == 0)
		return 0;
	if (err)
		*err = local;
	return err_wrap(err, "certificates");
}

void trust_env(struct strv *env)
{
	static const char *const names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT",
		"CURL_CA_BUNDLE", "GIT_SSL_CAINFO"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		strv_addf(env, "%s=" BUNDLE, names[i]);
	strv_addf(env, "NODE_EXTRA_CA_CERTS=" EXTRAS);
}
