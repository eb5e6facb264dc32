/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP with one registry. */
#include "fetch/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>
#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"
#include "fetch/challenge.h"

#define REDIRECTS_MAX 5
#define TOKEN_MAX     (1u << 20)
#define SLOW_SECONDS  60L

struct http {
	CURL *curl;
	char *host;          /* owned, as all strings here */
	char *auth, *token, *bearer; /* NULL: none */
	bool loopback, plain, basic;
};

bool http_is_loopback(const char *host)
{
	size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	       (len == 5 && strncmp(host, "[::1]", 5) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len);
}

struct http *http_new(const char *host, const char *auth, const char *token, struct err *err)
{
	struct http *h = xcalloc(1, sizeof(*h));

	h->host = xstrdup(host);
	h->auth = auth && *auth ? xstrdup(auth) : NULL;
	h->token = token && *token ? xstrdup(token) : NULL;
	h->loopback = http_is_loopback(host);
	h->curl = curl_easy_init();
	if (!h->curl) {
		err_set(err, ERR_ENV, "libcurl cannot start");
		http_free(h);
		return NULL;
	}
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->curl)
		curl_easy_cleanup(h->curl);
	free(h->host);
	free(h->auth);
	free(h->token);
	free(h->bearer);
	free(h);
}

void http_answer_done(struct http_answer *a)
{
	buf_done(&a->body);
	free(a->location);
	free(a->challenge);
	*a = (struct http_answer){0};
}

/* ---- one transfer ---- */

struct incoming {
	CURL *curl;
	const struct http_sink *sink; /* or NULL */
	struct http_answer *answer;
	bool begun, refused;
};

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct incoming *in = arg;
	const struct http_sink *s = in->sink;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(in->curl, CURLINFO_RESPONSE_CODE, &status);
	if (!s || (status != 200 && status != 206)) {
		in->refused = buf_put(&in->answer->body, p, len) < 0;
		return in->refused ? 0 : len;
	}
	in->refused = (!in->begun && s->begin(s->arg, status == 206 ? s->from : 0) < 0) ||
		      s->data(s->arg, p, len) < 0;
	in->begun = true;
	return in->refused ? 0 : len;
}

/* The value of the header field @name, owned, when the line has it. */
static char *field_value(const char *p, size_t len, const char *name)
{
	size_t n = strlen(name);

	if (len <= n || p[n] != ':' || strncasecmp(p, name, n) != 0)
		return NULL;
	for (n++; n < len && (p[n] == ' ' || p[n] == '\t');)
		n++;
	return xstrndup(p + n, len - n);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_answer *a = arg;
	size_t len = size * n;

	while (len && strchr("\r\n", p[len - 1]))
		len--;
	if (!a->challenge)
		a->challenge = field_value(p, len, "www-authenticate");
	if (!a->location)
		a->location = field_value(p, len, "location");
	return size * n;
}

/* The host of a URL, with port; owned. */
static char *url_host(const char *url)
{
	const char *at = strstr(url, "://");

	at = at ? at + 3 : url;
	return xstrndup(at, strcspn(at, "/?#"));
}

/* https, or http between this machine and itself. */
static int check_url(const struct http *h, const char *url, struct err *err)
{
	_free_ char *host = url_host(url);
	char safe[200];

	if (strncmp(url, "https://", 8) == 0 ||
		(strncmp(url, "http://", 7) == 0 && h->loopback && http_is_loopback(host)))
		return 0;
	return err_set(err, ERR_PEER, "%s: leads to %s, expected https", h->host,
		log_safe(safe, sizeof(safe), url, strlen(url)));
}

/* A location may lack scheme and host. */
static void make_absolute(const char *url, struct http_answer *a)
{
	_free_ char *from = steal_ptr(&a->location), *host = url_host(url);

	if (!from || *from != '/' || from[1] == '/')
		a->location = steal_ptr(&from);
	else
		a->location = xasprintf("%.*s://%s%s", (int)strcspn(url, ":"), url, host, from);
}

static void set_common(struct http *h, const char *url, struct http_answer *a, char *why)
{
	const char *ca = getenv("SSL_CERT_FILE");

	curl_easy_reset(h->curl);
	curl_easy_setopt(h->curl, CURLOPT_URL, url);
	curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, h->loopback ? "http,https" : "https");
	curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT, 30L);
	curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_LIMIT, 100L);
	curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS);
	curl_easy_setopt(h->curl, CURLOPT_USERAGENT, "hutch/" HUTCH_VERSION);
	curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, a);
	if (ca && *ca)
		curl_easy_setopt(h->curl, CURLOPT_CAINFO, ca);
	if (h->loopback)
		curl_easy_setopt(h->curl, CURLOPT_PROXY, "");
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
	_free_ char *line = value ? xasprintf("%s: %s", name, value) : NULL;

	if (line)
		*list = curl_slist_append(*list, line);
}

static struct curl_slist *headers(const struct http *h, const struct http_request *r, bool own)
{
	struct curl_slist *list = NULL;
	_free_ char *bearer = own && h->bearer ? xasprintf("Bearer %s", h->bearer) : NULL;
	_free_ char *basic = own && h->basic && h->auth ? xasprintf("Basic %s", h->auth) : NULL;

	add_header(&list, "Accept", r->accept);
	add_header(&list, "Content-Type", r->type);
	add_header(&list, "Authorization", bearer ? bearer : basic);
	list = curl_slist_append(list, "Expect:");
	return list;
}

/* @own: the registry itself, which may see our credentials. */
static int transfer(struct http *h, const struct http_request *r, const char *url, bool own,
	struct http_answer *ret, CURLcode *ret_code, struct err *err)
{
	char why[CURL_ERROR_SIZE] = "";
	_free_ char *range = NULL;
	struct curl_slist *list = headers(h, r, own);
	struct http_answer a = {0};
	struct incoming in = {.curl = h->curl, .sink = r->sink, .answer = &a};

	buf_init(&a.body, r->max);
	set_common(h, url, &a, why);
	curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, &in);
	if (r->sink && r->sink->from) {
		range = xasprintf("%llu-", (unsigned long long)r->sink->from);
		curl_easy_setopt(h->curl, CURLOPT_RANGE, range);
	}
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, list);
	if (strcmp(r->method, "HEAD") == 0) {
		curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
	} else if (strcmp(r->method, "GET") != 0) {
		curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, r->body ? r->body : "");
		curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
		curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, r->method);
	}
	*ret_code = curl_easy_perform(h->curl);
	curl_slist_free_all(list);
	if (*ret_code != CURLE_OK) {
		http_answer_done(&a);
		return err_set(err, ERR_PEER, "%s: %s", h->host,
			in.refused ? "answers with more than was announced"
			     : (why[0] ? why : curl_easy_strerror(*ret_code)));
	}
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &a.status);
	make_absolute(url, &a);
	*ret = a;
	return 0;
}

/* ---- requests ---- */

static int follow(
	struct http *h, const struct http_request *r, struct http_answer *a, struct err *err)
{
	for (int i = 0; a->status >= 300 && a->status < 400 && a->location; i++) {
		_free_ char *url = steal_ptr(&a->location);
		_free_ char *host = url_host(url);
		CURLcode code;

		http_answer_done(a);
		if (i == REDIRECTS_MAX)
			return err_set(err, ERR_PEER, "%s: too many redirects", h->host);
		if (check_url(h, url, err) < 0 ||
			transfer(h, r, url, strcasecmp(host, h->host) == 0, a, &code, err) < 0)
			return -1;
	}
	return 0;
}

int http_do(struct http *h, const struct http_request *r, struct http_answer *ret, struct err *err)
{
	_free_ char *url =
		*r->url == '/' ? xasprintf("http%s://%s%s", h->plain ? "" : "s", h->host, r->url)
			       : xstrdup(r->url);
	_free_ char *host = url_host(url), *plain = NULL;
	struct http_answer a = {0};
	CURLcode code;
	int result;

	if (check_url(h, url, err) < 0)
		return -1;
	result = transfer(h, r, url, strcasecmp(host, h->host) == 0, &a, &code, err);
	/* A registry on this machine often has no certificate. */
	if (result < 0 && h->loopback && !h->plain && *r->url == '/' &&
		(code == CURLE_SSL_CONNECT_ERROR || code == CURLE_RECV_ERROR)) {
		h->plain = true;
		plain = xasprintf("http://%s%s", h->host, r->url);
		result = transfer(h, r, plain, true, &a, &code, err);
	}
	if (result == 0 && strcmp(r->method, "GET") == 0)
		result = follow(h, r, &a, err);
	if (result < 0)
		return -1;
	*ret = a;
	return 0;
}

/* ---- tokens ---- */

/* Ask the token service: with the password, or as OAuth 2 has it with an identity token. */
static int ask_for_token(
	struct http *h, const struct challenge *c, struct http_answer *ret, struct err *err)
{
	_free_ char *service = curl_easy_escape(h->curl, c->service, 0);
	_free_ char *scope = curl_easy_escape(h->curl, c->scope, 0);
	_free_ char *token = h->token ? curl_easy_escape(h->curl, h->token, 0) : NULL;
	_free_ char *form = xasprintf("%sservice=%s%s%s",
		token ? "grant_type=refresh_token&client_id=hutch&" : "", service ? service : "",
		*c->scope ? "&scope=" : "", scope ? scope : "");
	_free_ char *body = token ? xasprintf("%s&refresh_token=%s", form, token) : NULL;
	_free_ char *url = token ? xstrdup(c->realm)
				 : xasprintf("%s%s%s", c->realm,
					   strchr(c->realm, '?') ? "&" : "?", form);
	struct http_request r = {.method = token ? "POST" : "GET",
		.url = url,
		.type = token ? "application/x-www-form-urlencoded" : NULL,
		.body = body,
		.len = body ? strlen(body) : 0,
		.max = TOKEN_MAX};
	CURLcode code;
	int result;

	/* The password goes to where the registry says, as is the custom, but never in the clear.
	 */
	h->basic = h->auth != NULL;
	result = check_url(h, url, err);
	if (result == 0)
		result = transfer(h, &r, url, h->basic, ret, &code, err);
	h->basic = false;
	return result;
}

static int get_token(struct http *h, const struct challenge *c, struct err *err)
{
	struct http_answer a;
	const char *token = NULL;
	json_t *j;

	if (ask_for_token(h, c, &a, err) < 0)
		return -1;
	j = a.status == 200 ? json_loads(buf_cstr(&a.body), JSON_REJECT_DUPLICATES, NULL) : NULL;
	token = json_string_value(json_object_get(j, "token"));
	if (!token)
		token = json_string_value(json_object_get(j, "access_token"));
	if (token &&
		strspn(token,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") ==
			strlen(token)) {
		free(h->bearer);
		h->bearer = xstrdup(token);
	}
	json_decref(j);
	if (!h->bearer)
		err_set(err, ERR_PEER, "%s: no access (status %ld of the token service)", h->host,
			a.status);
	http_answer_done(&a);
	return h->bearer ? 0 : -1;
}

int http_log_in(struct http *h, const char *challenge, struct err *err)
{
	struct challenge c;

	if (!challenge || !challenge_parse(challenge, &c))
		return err_set(err, ERR_PEER, "%s: asks for an unknown kind of login", h->host);
	if (c.bearer)
		return get_token(h, &c, err);
	if (!h->auth)
		return err_set(err, ERR_USER, "%s: asks for a login", h->host);
	h->basic = true;
	return 0;
}
