/* SPDX-License-Identifier: Apache-2.0 */
/* TLS at both ends, with one protocol inside.
 *
 * A guest that offers HTTP/2 gets its ServerHello when the server has chosen: what the guest offers
 * is what the server is offered, and what the server takes is what the guest gets. So nothing is
 * ever translated between versions of HTTP. A guest that offers HTTP/1.1 alone needs not wait, and
 * one that will only be told why its request goes nowhere gets what it offers. */
#include <string.h>

#include "base/mem.h"
#include "gate/flow.h"
#include "gate/sniff.h"

#define HELLO_MS    30000u /* the guest's side of the handshake */
#define UPSTREAM_MS 30000u /* the server's, from the guest's hello on */

/* Answer the hello. */
static bool shake_hands(struct flow *f, enum tls_alpn alpn)
{
	struct sniff s;
	struct tls *tls = NULL;
	struct err err = {.msg = "the TLS hello cannot be read"};

	if (sniff(buf_head(&f->guest.in), buf_len(&f->guest.in), &s) == SNIFF_TLS)
		tls = tls_server_new(
			f->gate->tls, f->gate->ca, s.has_sni ? s.sni : f->name, alpn, &err);
	if (!tls) {
		flow_reset(f, AUDIT_ERROR, "%s", err.msg);
		return true;
	}
	stream_start_tls(&f->guest, tls);
	f->proto = AUDIT_HTTPS;
	f->state = FLOW_PROXY;
	flow_deadline(f, HELLO_MS);
	if (alpn == TLS_ALPN_H2)
		proxy_start_http2(f);
	else
		proxy_start_http1(f);
	return true;
}

void intercept_start(struct flow *f, const struct sniff *s)
{
	f->intercepted = true;
	f->offers_h2 = s->alpn_h2;
	f->offers_http11 = s->alpn_http11;
	f->state = FLOW_MIRROR;
	flow_deadline(f, UPSTREAM_MS);
	if (f->up.fd >= 0)
		intercept_connected(f);
}

static void on_certificate(struct values_set *s)
{
	struct flow *f = container_of(s, struct flow, certificate);

	intercept_connected(f);
	flow_wake(f);
}

/* The client certificate of this destination, borrowed until values_done: it is there, or none
 * belongs here. False: later, or never (dial_failed). */
static bool get_certificate(struct flow *f, struct value **ret)
{
	const struct config_inject *ci =
		f->is_addr ? NULL : config_find_certificate(f->gate->config, f->name, f->port);
	struct values_set *set = &f->certificate;

	if (!ci)
		return true;
	if (!set->values) {
		*set = (struct values_set){.values = f->gate->values, .ready = on_certificate};
		values_want(set, ci->credential->service);
	}
	if (values_pending(set))
		return false;
	/* Without a value the requests are refused, or go without. */
	if (values_get(set, ci->credential->service, ret, &f->dial_err) < 0) {
		f->dial_err.class = ERR_ENV;
		f->dial_failed = true;
		values_done(set);
	}
	return !f->dial_failed;
}

void intercept_connected(struct flow *f)
{
	unsigned offer = f->offers_h2 ? TLS_OFFER_H2 : TLS_OFFER_HTTP11;
	struct value *certificate = NULL;
	struct tls *tls;

	if (f->up.fd < 0 || f->up.tls || !get_certificate(f, &certificate))
		return;
	if (f->offers_http11)
		offer |= TLS_OFFER_HTTP11;
	tls = tls_client_new(f->gate->tls, f->name, f->port, offer,
		f->is_addr ? NULL : config_find_trust(f->gate->config, f->name, f->port),
		certificate ? certificate->secret : NULL, &f->dial_err);
	f->certified = tls && certificate;
	values_done(&f->certificate);
	if (tls)
		stream_start_tls(&f->up, tls);
	else
		f->dial_failed = true;
}

/* Nobody will choose for us. */
static bool is_alone(const struct flow *f)
{
	return !f->allowed || f->identity[0] || f->dial_failed || f->up.eof || f->up.read_failed;
}

bool intercept_step(struct flow *f)
{
	if (!f->offers_h2)
		return shake_hands(f, TLS_ALPN_HTTP11);
	if (f->up.tls && tls_ready(f->up.tls))
		return shake_hands(f, tls_alpn(f->up.tls));
	if (is_alone(f))
		return shake_hands(f, f->offers_http11 ? TLS_ALPN_HTTP11 : TLS_ALPN_H2);
	if (f->guest.eof || stream_gone(&f->guest)) {
		flow_reset(f, AUDIT_ALLOW, "the guest went away");
		return true;
	}
	return false;
}

void intercept_timeout(struct flow *f)
{
	err_set(&f->dial_err, ERR_PEER, "the server took too long to set up TLS");
	f->dial_failed = true;
	flow_deadline(f, 0);
}
