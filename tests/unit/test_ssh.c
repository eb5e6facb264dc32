/* SPDX-License-Identifier: Apache-2.0 */
/* What of an ssh-agent a sandbox may use: messages, log-ins, sessions, known_hosts, signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "ssh/filter.h"
#include "ssh/hosts.h"
#include "ssh/verify.h"

/* ---- a host with an ed25519 key, and an agent with two keys ---- */

static EVP_PKEY *host;
static uint8_t host_blob[128];
static struct ssh_slice host_key = {host_blob, 0};
static char host_print[SSH_FINGERPRINT];
static const struct ssh_slice key_a = {(const uint8_t *)"blob-of-a", 9},
			      key_b = {(const uint8_t *)"blob-of-b", 9};
static unsigned n_signed;
static const char *agent_says; /* instead of what an agent should say */

static void put_slice(struct buf *b, struct ssh_slice s)
{
	ssh_put_string(b, s.p, s.n);
}

static void put_text(struct buf *b, const char *s)
{
	ssh_put_string(b, s, strlen(s));
}

static int make_host(void **state)
{
	struct buf b = {.max = sizeof(host_blob)};
	uint8_t raw[32];
	size_t len = sizeof(raw);

	host = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	EVP_PKEY_get_raw_public_key(host, raw, &len);
	put_text(&b, "ssh-ed25519");
	ssh_put_string(&b, raw, len);
	host_key.n = buf_len(&b);
	memcpy(host_blob, buf_head(&b), host_key.n);
	buf_done(&b);
	ssh_fingerprint(host_key, host_print);
	return 0;
}

static int drop_host(void **state)
{
	EVP_PKEY_free(host);
	return 0;
}

static void put_host_signature(struct buf *b, struct ssh_slice data)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct buf sig = {.max = 256};
	uint8_t raw[64];
	size_t len = sizeof(raw);

	EVP_DigestSignInit(ctx, NULL, NULL, NULL, host);
	assert_int_equal(EVP_DigestSign(ctx, raw, &len, data.p, data.n), 1);
	EVP_MD_CTX_free(ctx);
	put_text(&sig, "ssh-ed25519");
	ssh_put_string(&sig, raw, len);
	ssh_put_string(b, buf_head(&sig), buf_len(&sig));
	buf_done(&sig);
}

static int agent(void *arg, const struct buf *request, struct buf *answer)
{
	if (agent_says) {
		buf_puts(answer, agent_says);
		return *agent_says ? 0 : -1;
	}
	if (*buf_head(request) == SSH_AGENTC_REQUEST_IDENTITIES) {
		buf_put_u8(answer, SSH_AGENT_IDENTITIES_ANSWER);
		buf_put_be32(answer, 2);
		put_slice(answer, key_a);
		put_text(answer, "key a");
		put_slice(answer, key_b);
		put_text(answer, "key b");
	} else {
		assert_int_equal(*buf_head(request), SSH_AGENTC_SIGN_REQUEST);
		n_signed++;
		buf_put_u8(answer, SSH_AGENT_SIGN_RESPONSE);
		put_text(answer, "signature");
	}
	return 0;
}

static struct ssh_rules rules;

static int set_rules(void **state)
{
	memset(&rules, 0, sizeof(rules));
	strv_add(&rules.keys, "key a");
	strv_add(&rules.host_keys, host_print);
	n_signed = 0;
	agent_says = NULL;
	return 0;
}

static int drop_rules(void **state)
{
	strv_done(&rules.keys);
	strv_done(&rules.host_keys);
	strv_done(&rules.namespaces);
	return 0;
}

static struct ssh_conn make_conn(void)
{
	return (struct ssh_conn){.rules = &rules, .ask = agent};
}

/* The type of the answer to a message; every prefix of it and one byte more are refused alike. */
static int say(struct ssh_conn *c, const struct buf *message)
{
	uint8_t *exact = malloc(buf_len(message)); /* ASan sees what is read beyond */
	struct buf reply = {.max = SSH_MESSAGE_MAX};
	int type;

	memcpy(exact, buf_head(message), buf_len(message));
	ssh_conn_message(c, exact, buf_len(message), &reply);
	free(exact);
	assert_true(buf_len(&reply) > 0);
	type = *buf_head(&reply);
	buf_done(&reply);
	return type;
}

static const struct ssh_slice session = {(const uint8_t *)"0123456789abcdef0123456789abcdef", 32},
			      session2 = {(const uint8_t *)"another session another session!", 32};

static int bind(struct ssh_conn *c, struct ssh_slice sid, bool signed_, uint8_t forwarding)
{
	struct buf b = {.max = 4096};
	int type;

	buf_put_u8(&b, SSH_AGENTC_EXTENSION);
	put_text(&b, "session-bind@openssh.com");
	put_slice(&b, host_key);
	put_slice(&b, sid);
	put_host_signature(&b, signed_ ? sid : host_key);
	buf_put_u8(&b, forwarding);
	type = say(c, &b);
	buf_done(&b);
	return type;
}

struct login {
	struct ssh_slice sid, key, in_key, bound_host;
	const char *service, *method;
	uint8_t type, has_sig;
	bool more;
};

static struct login good_login(void)
{
	return (struct login){
		session, key_a, key_a, {NULL, 0}, "ssh-connection", "publickey", 50, 1, false};
}

static void put_login(struct buf *b, const struct login *l)
{
	put_slice(b, l->sid);
	buf_put_u8(b, l->type);
	put_text(b, "git");
	put_text(b, l->service);
	put_text(b, l->method);
	buf_put_u8(b, l->has_sig);
	put_text(b, "ssh-ed25519");
	put_slice(b, l->in_key);
	if (l->bound_host.p)
		put_slice(b, l->bound_host);
	if (l->more)
		buf_put_u8(b, 0);
}

static int sign(struct ssh_conn *c, const struct login *l)
{
	struct buf b = {.max = 4096}, data = {.max = 4096};
	int type;

	put_login(&data, l);
	buf_put_u8(&b, SSH_AGENTC_SIGN_REQUEST);
	put_slice(&b, l->key);
	ssh_put_string(&b, buf_head(&data), buf_len(&data));
	buf_put_be32(&b, 0);
	type = say(c, &b);
	buf_done(&b);
	buf_done(&data);
	return type;
}

/* ---- tests ---- */

static void test_lists_named_keys(void **state)
{
	static const struct {
		const char *key;
		uint32_t n;
	} t[] = {{"key a", 1}, {"key b", 1}, {"key", 0}, {"key a ", 0}, {"", 0}, {"*", 0}};

	for (size_t i = 0; i < 6; i++) {
		struct buf reply = {.max = SSH_MESSAGE_MAX};
		struct ssh_conn c = make_conn();
		uint8_t ask = SSH_AGENTC_REQUEST_IDENTITIES;
		struct rd r;

		strv_done(&rules.keys);
		strv_add(&rules.keys, t[i].key);
		ssh_conn_message(&c, &ask, 1, &reply);
		r = rd_make(buf_head(&reply), buf_len(&reply));
		assert_int_equal(rd_u8(&r), SSH_AGENT_IDENTITIES_ANSWER);
		assert_int_equal(rd_be32(&r), t[i].n);
		buf_done(&reply);
	}
}

static void test_log_in(void **state)
{
	struct ssh_conn c = make_conn();
	struct login l = good_login();

	assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
	assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
	assert_int_equal(sign(&c, &l), SSH_AGENT_SIGN_RESPONSE);
	l.method = "publickey-hostbound-v00@openssh.com";
	l.bound_host = host_key;
	assert_int_equal(sign(&c, &l), SSH_AGENT_SIGN_RESPONSE);
	assert_int_equal(n_signed, 2);
	/* the latest session counts */
	assert_int_equal(bind(&c, session2, true, 0), SSH_AGENT_SUCCESS);
	assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
	l.sid = session2;
	assert_int_equal(sign(&c, &l), SSH_AGENT_SIGN_RESPONSE);
}

/* user@host: nobody else may log in there. */
static void test_log_in_as(void **state)
{
	static const struct {
		const char *user;
		int type;
	} t[] = {{"git", SSH_AGENT_SIGN_RESPONSE}, {"gi", SSH_AGENT_FAILURE},
		{"gitt", SSH_AGENT_FAILURE}, {"root", SSH_AGENT_FAILURE}};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct ssh_conn c = make_conn();
		struct login l = good_login();

		strv_done(&rules.host_keys);
		strv_addf(&rules.host_keys, "%s@%s", t[i].user, host_print);
		assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
		assert_int_equal(sign(&c, &l), t[i].type);
	}
}

/* What "ssh-keygen -Y sign -n @name" asks to have signed. */
static int sign_namespaced(struct ssh_conn *c, const char *magic, const char *name, bool more)
{
	struct buf b = {.max = 4096}, data = {.max = 4096};
	int type;

	buf_puts(&data, magic);
	put_text(&data, name);
	put_text(&data, "");
	put_text(&data, "sha512");
	put_text(&data, "a hash");
	if (more)
		buf_put_u8(&data, 0);
	buf_put_u8(&b, SSH_AGENTC_SIGN_REQUEST);
	put_slice(&b, key_a);
	ssh_put_string(&b, buf_head(&data), buf_len(&data));
	buf_put_be32(&b, 0);
	type = say(c, &b);
	buf_done(&b);
	buf_done(&data);
	return type;
}

static void test_namespaces(void **state)
{
	struct ssh_conn c = make_conn();
	struct login l = good_login();

	assert_int_equal(sign_namespaced(&c, "SSHSIG", "git", false), SSH_AGENT_FAILURE);
	strv_add(&rules.namespaces, "git");
	strv_add(&rules.namespaces, "file");
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "git", false), SSH_AGENT_SIGN_RESPONSE);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "file", false), SSH_AGENT_SIGN_RESPONSE);
	assert_int_equal(n_signed, 2);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "fil", false), SSH_AGENT_FAILURE);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "", false), SSH_AGENT_FAILURE);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "git", true), SSH_AGENT_FAILURE);
	assert_int_equal(sign_namespaced(&c, "SSHSIX", "git", false), SSH_AGENT_FAILURE);
	/* A namespace is no host. */
	strv_done(&rules.host_keys);
	assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
	assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
	/* Every key of the agent, but for the same things. */
	strv_done(&rules.keys);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "git", false), SSH_AGENT_FAILURE);
	rules.any_key = true;
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "git", false), SSH_AGENT_SIGN_RESPONSE);
	assert_int_equal(sign_namespaced(&c, "SSHSIG", "mail", false), SSH_AGENT_FAILURE);
}

static void test_log_in_refused(void **state)
{
	struct login l[12];
	struct ssh_conn c = make_conn();

	for (size_t i = 0; i < 12; i++)
		l[i] = good_login();
	l[0].sid = session2;
	l[1].key = l[1].in_key = key_b;
	l[2].in_key = key_b;
	l[3].service = "ssh-userauth";
	l[4].method = "hostbased";
	l[5].type = 51;
	l[6].has_sig = 0;
	l[7].has_sig = 2;
	l[8].more = true;
	l[9].bound_host = host_key; /* behind plain publickey */
	l[10].method = "publickey-hostbound-v00@openssh.com";
	l[11].method = l[10].method;
	l[11].bound_host = key_b;
	assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
	for (size_t i = 0; i < 12; i++)
		if (sign(&c, &l[i]) != SSH_AGENT_FAILURE)
			fail_msg("row %zu", i);
	assert_int_equal(n_signed, 0);
	strv_done(&rules.host_keys);
	l[0] = good_login();
	assert_int_equal(sign(&c, &l[0]), SSH_AGENT_FAILURE);
}

static void test_bind_that_fails_spoils(void **state)
{
	static const struct {
		bool sig;
		uint8_t forwarding;
	} t[] = {{false, 0}, {true, 1}, {true, 2}};

	for (size_t i = 0; i < 3; i++) {
		struct ssh_conn c = make_conn();
		struct login l = good_login();

		assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
		assert_int_equal(bind(&c, session2, t[i].sig, t[i].forwarding), SSH_AGENT_FAILURE);
		assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
		assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
		assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
	}
}

static void test_binds_are_bounded(void **state)
{
	struct ssh_conn c = make_conn();

	for (int i = 0; i < SSH_BINDS_MAX; i++)
		assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_SUCCESS);
	assert_int_equal(bind(&c, session, true, 0), SSH_AGENT_FAILURE);
}

static void test_any_host(void **state)
{
	struct ssh_conn c = make_conn();
	struct login l = good_login();

	rules.any_host = true;
	l.service = "anything";
	assert_int_equal(sign(&c, &l), SSH_AGENT_SIGN_RESPONSE);
	l.key = key_b;
	assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
}

/* Every other type of message, known or not. */
static void test_everything_else(void **state)
{
	struct ssh_conn c = make_conn();

	rules.any_host = true;
	for (unsigned type = 0; type < 256; type++) {
		struct buf b = {.max = 64};

		buf_put_u8(&b, (uint8_t)type);
		if (type != SSH_AGENTC_REQUEST_IDENTITIES)
			assert_int_equal(say(&c, &b), SSH_AGENT_FAILURE);
		buf_puts(&b, "more");
		assert_int_equal(say(&c, &b), SSH_AGENT_FAILURE);
		buf_done(&b);
	}
}

static void test_truncated(void **state)
{
	struct buf b = {.max = 4096}, data = {.max = 4096};
	struct login l = good_login();

	put_login(&data, &l);
	buf_put_u8(&b, SSH_AGENTC_SIGN_REQUEST);
	put_slice(&b, key_a);
	ssh_put_string(&b, buf_head(&data), buf_len(&data));
	buf_put_be32(&b, 0);
	rules.any_host = true;
	for (size_t n = 1; n <= buf_len(&b); n++) {
		struct buf part = {.max = 4096};
		struct ssh_conn c = make_conn();

		buf_put(&part, buf_head(&b), n);
		assert_int_equal(say(&c, &part),
			n == buf_len(&b) ? SSH_AGENT_SIGN_RESPONSE : SSH_AGENT_FAILURE);
		buf_done(&part);
	}
	for (size_t n = 0; n <= buf_len(&data); n++) {
		uint8_t *exact = malloc(n ? n : 1);
		struct ssh_login out;

		if (n)
			memcpy(exact, buf_head(&data), n);
		assert_int_equal(
			ssh_get_login((struct ssh_slice){exact, n}, &out), n == buf_len(&data));
		free(exact);
	}
	buf_done(&b);
	buf_done(&data);
}

static void test_agent_that_errs(void **state)
{
	static const char *const t[] = {"", "\x05", "\x0c", "\x0cxyz", "\x0e", "hello"};
	struct login l = good_login();

	rules.any_host = true;
	for (size_t i = 0; i < 6; i++) {
		struct ssh_conn c = make_conn();
		struct buf b = {.max = 16};

		agent_says = t[i];
		buf_put_u8(&b, SSH_AGENTC_REQUEST_IDENTITIES);
		assert_int_equal(say(&c, &b), SSH_AGENT_FAILURE);
		assert_int_equal(sign(&c, &l), SSH_AGENT_FAILURE);
		buf_done(&b);
	}
}

static void test_signatures(void **state)
{
	struct buf b = {.max = 512};
	struct ssh_slice sig;

	put_host_signature(&b, session);
	sig = (struct ssh_slice){buf_head(&b) + 4, buf_len(&b) - 4};
	assert_true(ssh_verify(host_key, sig, session));
	assert_false(ssh_verify(host_key, sig, session2));
	assert_false(ssh_verify(key_a, sig, session));
	for (size_t n = 0; n < sig.n; n++)
		assert_false(ssh_verify(host_key, (struct ssh_slice){sig.p, n}, session));
	for (size_t n = 0; n < host_key.n; n++)
		assert_false(ssh_verify((struct ssh_slice){host_key.p, n}, sig, session));
	buf_head(&b)[40] ^= 1;
	assert_false(ssh_verify(host_key, sig, session));
	buf_done(&b);
}

/* From ssh-keygen and ssh-keyscan. */
#define KEY   "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
#define PRINT "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"

static size_t known(const char *text, const char *name)
{
	struct strv out = {0};
	size_t n;

	ssh_hosts_find(text, name, &out);
	n = out.n;
	for (size_t i = 0; i < n; i++)
		assert_string_equal(out.v[i], PRINT);
	strv_done(&out);
	return n;
}

static void test_known_hosts(void **state)
{
	static const struct {
		const char *text, *name;
		size_t n;
	} t[] = {
		{"github.com ssh-ed25519 " KEY "\n", "github.com", 1},
		{"github.com ssh-ed25519 " KEY, "github.com", 1},
		{"GitHub.com ssh-ed25519 " KEY " comment here\r\n", "github.com", 1},
		{"x,github.com,10.0.0.1 ssh-ed25519 " KEY "\n", "github.com", 1},
		{"*.com ssh-ed25519 " KEY "\n", "github.com", 1},
		{"*,!github.com ssh-ed25519 " KEY "\n", "github.com", 0},
		{"github.com ssh-ed25519 " KEY "\n", "github.co", 0},
		{"github.com ssh-ed25519 " KEY "\n", "[github.com]:2222", 0},
		{"[github.com]:2222 ssh-ed25519 " KEY "\n", "[github.com]:2222", 1},
		{"[github.com]:2222 ssh-ed25519 " KEY "\n", "github.com", 0},
		{"#github.com ssh-ed25519 " KEY "\n", "github.com", 0},
		{"@revoked github.com ssh-ed25519 " KEY "\n", "github.com", 0},
		{"@cert-authority *.com ssh-ed25519 " KEY "\n", "github.com", 0},
		{"github.com ssh-ed25519\n", "github.com", 0},
		{"github.com ssh-ed25519 !!!!\n", "github.com", 0},
		{"\n\n  github.com\tssh-ed25519  " KEY "\n", "github.com", 1},
		{"|1|XYZ|abc ssh-ed25519 " KEY "\n", "github.com", 0},
		{"|1|", "github.com", 0},
		{"", "github.com", 0},
		{"a ssh-ed25519 " KEY "\na ssh-ed25519 " KEY "\n", "a", 2},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (known(t[i].text, t[i].name) != t[i].n)
			fail_msg("row %zu", i);
}

static void test_hashed_names(void **state)
{
	uint8_t hash[20];
	char salt64[64], hash64[64], line[512];

	ssh_hmac_sha1("salt", 4, "git.example", hash);
	EVP_EncodeBlock((uint8_t *)salt64, (const uint8_t *)"salt", 4);
	EVP_EncodeBlock((uint8_t *)hash64, hash, 20);
	snprintf(line, sizeof(line), "|1|%s|%s ssh-ed25519 " KEY "\n", salt64, hash64);
	assert_int_equal(known(line, "git.example"), 1);
	assert_int_equal(known(line, "git.exampl"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_rules, drop_rules)
	const struct CMUnitTest tests[] = {T(test_lists_named_keys), T(test_log_in),
		T(test_log_in_refused), T(test_bind_that_fails_spoils), T(test_binds_are_bounded),
		T(test_log_in_as), T(test_bind_that_fails_spoils), T(test_binds_are_bounded),
		T(test_namespaces), T(test_bind_that_fails_spoils), T(test_binds_are_bounded),
		T(test_any_host), T(test_everything_else), T(test_truncated),
		T(test_agent_that_errs), T(test_signatures), T(test_known_hosts),
		T(test_hashed_names)};

	return cmocka_run_group_tests(tests, make_host, drop_host);
}
