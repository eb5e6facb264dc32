/* SPDX-License-Identifier: Apache-2.0 */
/* Host names and addresses: strict parsing, one canonical form. */
#include "policy/name.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f');
}

/* WHATWG URL "ends in a number": such text is an address to other parsers ("1.2.3", "x.0x7f"). */
static bool label_is_number(const char *s, size_t len)
{
	size_t i = 0;

	if (len >= 2 && s[0] == '0' && s[1] == 'x') {
		for (i = 2; i < len && is_hex(s[i]); i++)
			;
		return i == len;
	}
	for (i = 0; i < len && is_digit(s[i]); i++)
		;
	return i == len;
}

/* One character of a name, in lower case; 0: not allowed. */
static char name_char(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	if ((c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_' || c == '.')
		return c;
	return '\0';
}

static int check_label(const char *label, size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, ERR_USER, "host name has an empty label");
	if (len > 63)
		return err_set(err, ERR_USER, "host name has a label of more than 63 characters");
	if (label[0] == '-' || label[len - 1] == '-')
		return err_set(err, ERR_USER, "label of a host name starts or ends with '-'");
	return 0;
}

int policy_name_canon(const char *s, size_t len, char ret[POLICY_NAME_MAX + 1], struct err *err)
{
	char name[POLICY_NAME_MAX + 1];
	size_t start = 0;

	if (len > 0 && s[len - 1] == '.')
		len--;
	if (len == 0)
		return err_set(err, ERR_USER, "host name is empty");
	if (len > POLICY_NAME_MAX)
		return err_set(
			err, ERR_USER, "host name is longer than %d characters", POLICY_NAME_MAX);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] >= 0x80)
			return err_set(err, ERR_USER,
				"host name is not ASCII: write it in punycode (xn--...)");
		name[i] = name_char(s[i]);
		if (!name[i])
			return err_set(
				err, ERR_USER, "host name has a character that is not allowed");
	}
	name[len] = '\0';
	for (size_t i = 0; i <= len; i++) {
		if (i < len && name[i] != '.')
			continue;
		if (check_label(name + start, i - start, err) < 0)
			return -1;
		if (i == len && label_is_number(name + start, i - start))
			return err_set(err, ERR_USER,
				"host name ends in a number: not a name, and not "
				"an address of the form 192.0.2.1");
		start = i + 1;
	}
	memcpy(ret, name, len + 1);
	return 0;
}

struct policy_addr policy_addr_v4(uint32_t a)
{
	return (struct policy_addr){
		.b = {(uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8), (uint8_t)a}};
}

struct policy_addr policy_addr_v6(const uint8_t b[static 16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct policy_addr a = {.v6 = true};

	if (memcmp(b, mapped, sizeof(mapped)) == 0) {
		a.v6 = false;
		memcpy(a.b, b + 12, 4);
	} else {
		memcpy(a.b, b, 16);
	}
	return a;
}

static int parse_v4(const char *s, size_t len, struct policy_addr *ret)
{
	struct policy_addr a = {0};
	size_t i = 0;

	for (int part = 0; part < 4; part++) {
		unsigned v = 0;
		size_t start = i;

		while (i < len && is_digit(s[i]) && i - start < 3)
			v = v * 10 + (unsigned)(s[i++] - '0');
		if (i == start || v > 255 || (s[start] == '0' && i - start > 1))
			return -1;
		a.b[part] = (uint8_t)v;
		if (part < 3 && (i == len || s[i++] != '.'))
			return -1;
	}
	if (i != len)
		return -1;
	*ret = a;
	return 0;
}

int policy_addr_parse(const char *s, size_t len, struct policy_addr *ret, struct err *err)
{
	char text[POLICY_ADDR_TEXT];
	uint8_t b[16];

	if (parse_v4(s, len, ret) == 0)
		return 0;
	if (len < sizeof(text) && memchr(s, ':', len) && !memchr(s, '\0', len)) {
		memcpy(text, s, len);
		text[len] = '\0';
		if (inet_pton(AF_INET6, text, b) == 1) {
			*ret = policy_addr_v6(b);
			return 0;
		}
	}
	return err_set(err, ERR_USER, "not an address: expected 192.0.2.1 or 2001:db8::1");
}

const char *policy_addr_text(const struct policy_addr *a, char buf[static POLICY_ADDR_TEXT])
{
	if (!inet_ntop(a->v6 ? AF_INET6 : AF_INET, a->b, buf, POLICY_ADDR_TEXT))
		buf[0] = '\0';
	return buf;
}

bool policy_addr_equal(const struct policy_addr *a, const struct policy_addr *b)
{
	return a->v6 == b->v6 && memcmp(a->b, b->b, a->v6 ? 16 : 4) == 0;
}

bool policy_addr_in(const struct policy_addr *a, const struct policy_addr *net, unsigned prefix)
{
	unsigned bytes = prefix / 8, bits = prefix % 8;

	if (a->v6 != net->v6 || prefix > (a->v6 ? 128u : 32u))
		return false;
	if (memcmp(a->b, net->b, bytes) != 0)
		return false;
	return bits == 0 || ((a->b[bytes] ^ net->b[bytes]) >> (8 - bits)) == 0;
}

int policy_host_parse(const char *s, size_t len, struct policy_host *ret, struct err *err)
{
	struct policy_host h = {0};

	if (len >= 2 && s[0] == '[' && s[len - 1] == ']') {
		/* Only IPv6 is written in brackets; "[::ffff:1.2.3.4]" is IPv4 in disguise. */
		if (!memchr(s, ':', len) || policy_addr_parse(s + 1, len - 2, &h.addr, NULL) < 0)
			return err_set(err, ERR_USER, "not an IPv6 address in brackets");
		h.is_addr = true;
	} else if (parse_v4(s, len, &h.addr) == 0) {
		h.is_addr = true;
	} else if (policy_name_canon(s, len, h.name, err) < 0) {
		return -1;
	}
	if (h.is_addr) {
		char text[POLICY_ADDR_TEXT];

		snprintf(h.name, sizeof(h.name), "%s", policy_addr_text(&h.addr, text));
	}
	*ret = h;
	return 0;
}

/* 1-65535 in plain decimal. */
static int parse_port(const char *s, size_t len, uint16_t *ret, struct err *err)
{
	unsigned v = 0;

	if (len < 1 || len > 5 || s[0] == '0')
		return err_set(err, ERR_USER, "port is not a number from 1 to 65535");
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(s[i]))
			return err_set(err, ERR_USER, "port is not a number from 1 to 65535");
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	if (v > 65535)
		return err_set(err, ERR_USER, "port is not a number from 1 to 65535");
	*ret = (uint16_t)v;
	return 0;
}

int policy_authority_parse(
	const char *s, size_t len, struct policy_host *ret, uint16_t *ret_port, struct err *err)
{
	const char *colon = len ? memrchr(s, ':', len) : NULL;
	struct policy_host h;
	uint16_t port = 0;
	size_t n = len;

	if (colon && s[len - 1] != ']') {
		n = (size_t)(colon - s);
		if (parse_port(colon + 1, len - n - 1, &port, err) < 0)
			return -1;
	}
	if (policy_host_parse(s, n, &h, err) < 0)
		return -1;
	*ret = h;
	*ret_port = port;
	return 0;
}
