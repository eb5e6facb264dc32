/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 between two real peers, a client and a server on nghttp2, with the gate's engine in the
 * middle: what passes, what is held back, what ends how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http2_world.h"

static void exchange(size_t step)
{
	int32_t id;

	start(step);
	w.secret = "Bearer secret";
	id = ask("POST", "/a/b?c=d", "x-more", "1", 100000);
	assert_string_equal(w.server.seen[id].head,
		":method: POST\n:scheme: https\n:authority: api.test\n"
		":path: /a/b?c=d (never indexed)\nx-more: 1\n"
		"authorization: Bearer secret (never indexed)\n");
	assert_int_equal(w.server.seen[id].body, 100000);
	assert_true(w.server.seen[id].ended);
	reply(id, "103", 0, NULL);
	assert_int_equal(w.guest.seen[id].interim, 1);
	assert_int_equal(w.answered, 0);
	reply(id, "200", 200000, "0");
	assert_int_equal(w.guest.seen[id].body, 200000);
	assert_string_equal(w.guest.seen[id].trailer, "grpc-status: 0 (never indexed)\n");
	assert_true(w.guest.seen[id].ended && w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, 0);
	assert_int_equal(w.ended, 1);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	assert_int_equal(w.last_bytes[HTTP2_GUEST], 100000);
	assert_int_equal(w.last_bytes[HTTP2_SERVER], 200000);
	assert_int_equal(w.last_status, 200);
	finish();
}

static void test_exchange(void **state)
{
	exchange(65536);
	exchange(1);
	exchange(7);
}

static void test_many_streams(void **state)
{
	start(1000);
	for (int i = 0; i < 50; i++)
		ask("GET", "/", NULL, NULL, 0);
	for (int32_t id = 99; id > 0; id -= 2)
		reply(id, "200", 1000, NULL);
	for (int32_t id = 1; id < 100; id += 2)
		assert_int_equal(w.guest.seen[id].body, 1000);
	assert_int_equal(w.ended, 50);
	finish();
}

/* A receiver that takes nothing holds back its own stream only, and the sender beyond the windows.
 */
static void test_windows(void **state)
{
	int32_t slow, fast;

	start(65536);
	nghttp2_session_set_local_window_size(w.guest.session, 0, 0, 1 << 24);
	w.guest.keeps_window = true;
	slow = ask("GET", "/slow", NULL, NULL, 0);
	reply(slow, "200", 64u << 20, NULL);
	assert_int_equal(w.guest.seen[slow].body, 65535);
	/* What is with the engine is no more than the window; the rest is with the server. */
	assert_true((64u << 20) - w.server.seen[slow].to_send <= 65535 + HTTP2_SERVER_WINDOW);
	assert_true(w.budget.used < HTTP2_SERVER_WINDOW + (256u << 10));
	w.guest.keeps_window = false;
	fast = ask("GET", "/fast", NULL, NULL, 0);
	reply(fast, "200", 300000, NULL);
	assert_int_equal(w.guest.seen[fast].body, 300000);
	nghttp2_submit_rst_stream(w.guest.session, 0, slow, NGHTTP2_CANCEL);
	pump();
	assert_true(w.server.seen[slow].closed);
	assert_int_equal(w.server.seen[slow].code, NGHTTP2_CANCEL);
	assert_true(w.budget.used < 256u << 10);
	/* The other way. */
	nghttp2_session_set_local_window_size(w.server.session, 0, 0, 1 << 24);
	w.server.keeps_window = true;
	slow = ask("POST", "/slow", NULL, NULL, 64u << 20);
	assert_int_equal(w.server.seen[slow].body, 65535);
	assert_true((64u << 20) - w.guest.seen[slow].to_send <= 65535 + HTTP2_GUEST_WINDOW);
	w.server.keeps_window = false;
	fast = ask("POST", "/fast", NULL, NULL, 300000);
	assert_int_equal(w.server.seen[fast].body, 300000);
	finish();
}

static void test_resets(void **state)
{
	static const uint32_t codes[] = {NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM,
		NGHTTP2_INTERNAL_ERROR, NGHTTP2_ENHANCE_YOUR_CALM, 0x1234};
	int32_t id;

	start(65536);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		id = ask("GET", "/", NULL, NULL, 0);
		nghttp2_submit_rst_stream(w.guest.session, 0, id, codes[i]);
		pump();
		assert_int_equal(w.server.seen[id].code, codes[i]);
		assert_int_equal(w.last_end, HTTP2_GUEST_RESET);
		assert_int_equal(w.last_code, codes[i]);
		id = ask("GET", "/", NULL, NULL, 0);
		nghttp2_submit_rst_stream(w.server.session, 0, id, codes[i]);
		pump();
		assert_int_equal(w.guest.seen[id].code, codes[i]);
		assert_false(w.guest.seen[id].ended);
		assert_int_equal(w.last_end, HTTP2_SERVER_RESET);
		assert_int_equal(w.last_code, codes[i]);
	}
	/* An answer before the request has ended, and no wish to hear the rest. */
	w.server.keeps_window = true;
	id = ask("POST", "/", NULL, NULL, 1u << 20);
	reply(id, "413", 10, NULL);
	assert_true(w.guest.seen[id].ended && !w.guest.seen[id].closed);
	nghttp2_submit_rst_stream(w.server.session, 0, id, NGHTTP2_NO_ERROR);
	pump();
	assert_true(w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, NGHTTP2_NO_ERROR);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	assert_int_equal(w.failed, 0);
	finish();
}

static void test_answers_of_our_own(void **state)
{
	int32_t id;

	start(65536);
	w.refuse = true;
	id = ask("POST", "/", NULL, NULL, 4u << 20);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 403"));
	assert_int_equal(w.guest.seen[id].body, 2);
	assert_true(w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, NGHTTP2_NO_ERROR);
	assert_string_equal(w.server.seen[1].head, "");
	w.refuse = false;
	id = ask("GET", "/", NULL, NULL, 0);
	reply(1, "204", 0, NULL); /* the server's first */
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 204"));
	assert_int_equal(w.ended, 2);
	finish();
}

static void test_unreadable(void **state)
{
	static const struct {
		const char *method, *path, *name, *value;
		int status; /* 0: nghttp2 resets the stream */
	} rows[] = {
		{"GET", "/", "host", "other.test", 400},
		{"GET", "/", "host", "API.test", -1},
		{"TRACE", "/", "x", "y", 501},
		{"get", "/", "x", "y", 400},
		{"GET", "/", "content_length", "1", 400},
		{"GET", "/", "content-length", "1x", 0},
		{"GET", "/", "transfer-encoding", "chunked", 0},
		{"GET", "/", "connection", "close", 0},
		{"GET", "/", "te", "gzip", 0},
		{"GET", "/", "expect", "all", 417},
		{"GET", "/", "x", "a\rb", 400},
		{"GET", "/", "x", "a\nb", 400},
		{"GET", "/", "x y", "a", 400},
		{"GET", "/a b", "x", "y", 0},
		{"GET", "/#a", "x", "y", 400},
		{"GET", "http://other.test/", "x", "y", 0},
		{"GET", "a", "x", "y", 0},
		{"GET", "*", "x", "y", 0},
		{"OPTIONS", "*", "x", "y", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char status[32];
		int32_t id;

		start(65536);
		id = ask(rows[i].method, rows[i].path, rows[i].name, rows[i].value, 0);
		if (rows[i].status < 0) {
			assert_string_not_equal(w.server.seen[id].head, "");
		} else {
			assert_string_equal(w.server.seen[id].head, "");
			snprintf(status, sizeof(status), ":status: %d", rows[i].status);
			if (rows[i].status)
				assert_non_null(strstr(w.guest.seen[id].head, status));
			else
				assert_int_not_equal(w.guest.seen[id].code, 0);
		}
		ask("GET", "/fine", NULL, NULL, 0);
		assert_non_null(strstr(w.server.seen[rows[i].status < 0 ? 3 : 1].head, "/fine"));
		finish();
	}
}

static void test_lost_server(void **state)
{
	int32_t waits, answered, complete;

	start(65536);
	waits = ask("GET", "/", NULL, NULL, 0);
	answered = ask("GET", "/", NULL, NULL, 0);
	nghttp2_session_set_local_window_size(w.guest.session, 0, 0, 1 << 24);
	w.guest.keeps_window = true;
	reply(answered, "200", 64u << 20, NULL);
	complete = ask("GET", "/", NULL, NULL, 0);
	reply(complete, "200", 500000, NULL);
	w.wait = true;
	ask("GET", "/not-forwarded", NULL, NULL, 0);
	w.guest.keeps_window = false;
	http2_lost_server(w.h, "gone");
	pump();
	assert_int_equal(w.failed, 2);
	assert_non_null(strstr(w.guest.seen[waits].head, ":status: 502"));
	assert_int_equal(w.guest.seen[answered].code, NGHTTP2_INTERNAL_ERROR);
	assert_false(w.guest.seen[answered].ended);
	/* What the server has said to the end is delivered. */
	nghttp2_session_consume_stream(w.guest.session, complete, 65535);
	pump();
	assert_int_equal(w.guest.seen[complete].body, 500000);
	assert_true(w.guest.seen[complete].ended);
	assert_true(w.guest.goaway);
	assert_int_equal(w.ended, 4);
	assert_true(http2_over(w.h, HTTP2_GUEST));
	finish();
}

static void test_goaway(void **state)
{
	int32_t first, second;

	start(65536);
	first = ask("GET", "/", NULL, NULL, 0);
	second = ask("GET", "/", NULL, NULL, 0);
	nghttp2_submit_goaway(w.server.session, 0, first, NGHTTP2_NO_ERROR, NULL, 0);
	pump();
	assert_true(w.guest.goaway);
	/* One was not processed: it may be tried again elsewhere. */
	assert_int_equal(w.guest.seen[second].code, NGHTTP2_REFUSED_STREAM);
	reply(first, "200", 1000, NULL);
	assert_int_equal(w.guest.seen[first].body, 1000);
	assert_int_equal(w.failed, 0);
	assert_true(http2_over(w.h, HTTP2_GUEST));
	assert_true(http2_over(w.h, HTTP2_SERVER));
	finish();
}

static void test_server_that_speaks_something_else(void **state)
{
	struct buf in;
	struct err err;
	int32_t id;

	start(65536);
	id = ask("GET", "/", NULL, NULL, 0);
	buf_init(&in, 1000);
	buf_puts(&in, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
	if (http2_feed(w.h, HTTP2_SERVER, &in, 0, &err) < 0)
		http2_lost_server(w.h, err.msg);
	buf_done(&in);
	while (from_engine(&w.server, HTTP2_SERVER)) {
	}
	if (http2_over(w.h, HTTP2_SERVER))
		http2_lost_server(w.h, "x");
	while (from_engine(&w.guest, HTTP2_GUEST)) {
	}
	assert_int_equal(w.failed, 1);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	finish();
}

static void test_rapid_reset(void **state)
{
	unsigned n;

	start(65536);
	for (n = 0; n < 1500 && !w.guest.goaway && !w.broken; n++) {
		int32_t id = ask("GET", "/", NULL, NULL, 0);

		nghttp2_submit_rst_stream(w.guest.session, 0, id, NGHTTP2_CANCEL);
		pump();
	}
	assert_in_range(n, 900, 1100);
	finish();
	/* Spread over time it is ordinary use. */
	start(65536);
	for (n = 0; n < 1500; n++) {
		int32_t id = ask("GET", "/", NULL, NULL, 0);

		w.now += 100000000;
		nghttp2_submit_rst_stream(w.guest.session, 0, id, NGHTTP2_CANCEL);
		pump();
		if (w.guest.goaway)
			break; /* nghttp2's own limit goes by the real clock */
	}
	assert_true(n >= 999);
	finish();
}

static void test_limits(void **state)
{
	static char big[70000];
	int32_t id;

	start(65536);
	memset(big, 'v', sizeof(big) - 1);
	id = ask("GET", "/", "x", big, 0);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 431"));
	big[30000] = '\0';
	big[0] = '/';
	id = ask("GET", big, NULL, NULL, 0);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 414"));
	/* A value that is added may be longer than the guest's may. */
	big[30000] = 'v';
	w.secret = big;
	ask("GET", "/", NULL, NULL, 0);
	assert_non_null(strstr(w.server.seen[1].head, "authorization: "));
	finish();
}

/* The owner may decide later, and the server come later. */
static void test_waiting(void **state)
{
	int32_t id;

	w = (struct world){.budget = {.max = 64u << 20}, .step = 65536};
	peer_init(&w.guest, true, 65535);
	peer_init(&w.server, false, 65535);
	w.h = http2_new(&ops, &w.budget, &w);
	w.wait = true;
	id = ask("POST", "/", NULL, NULL, 10u << 20);
	assert_true((10u << 20) - w.guest.seen[id].to_send <= HTTP2_GUEST_WINDOW);
	assert_int_equal(http2_forward(w.last, NULL, 0), -1);
	assert_int_equal(http2_start_server(w.h), 0);
	assert_int_equal(http2_forward(w.last, NULL, 0), 0);
	pump();
	assert_int_equal(w.server.seen[id].body, 10u << 20);
	reply(id, "200", 0, NULL);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	ask("POST", "/", NULL, NULL, 1000);
	http2_drop(w.last);
	pump();
	assert_int_equal(w.last_end, HTTP2_DROPPED);
	assert_int_equal(w.ended, 2);
	finish();
}

static void test_filters(void **state)
{
	int32_t id;

	/* The peers' bodies count down by ones: 3 2 1 is where each ends. */
	start(7);
	w.mask = filter_new();
	w.replace = filter_new();
	assert_int_equal(filter_add_mask(w.mask, "\6\5\4\3\2\1", 6), 0);
	assert_int_equal(filter_add_mask(w.mask, "grpc-secret", 11), 0);
	assert_int_equal(filter_add(w.replace, "\4\3\2\1", 4, "longer than it was", 18), 0);
	id = ask("POST", "/", NULL, NULL, 100000);
	/* Every 256 bytes, and at the end. */
	assert_int_equal(w.server.seen[id].body, 100000 + 391 * 14);
	reply(id, "200", 100000, "grpc-secret");
	assert_int_equal(w.guest.seen[id].body, 100000);
	assert_int_equal(filter_hits(w.mask), 392);
	assert_string_equal(w.guest.seen[id].trailer, "grpc-status: *********** (never indexed)\n");
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	finish();
	filter_free(w.mask);
	filter_free(w.replace);
}

static void test_whole_bodies(void **state)
{
	int32_t id;

	start(100);
	w.collect = 500000;
	id = ask("POST", "/", NULL, NULL, 500000); /* more than the window */
	assert_int_equal(w.whole_requests, 1);
	assert_int_equal(w.server.seen[1].body, 500008);
	w.hold = true;
	reply(id, "200", 5000, "0");
	assert_int_equal(w.whole_responses, 1);
	assert_int_equal(w.guest.seen[id].body, 8);
	assert_non_null(strstr(w.guest.seen[id].head, "content-length: 8"));
	assert_int_equal(w.last_status, 200);
	/* Too long. */
	id = ask("POST", "/", NULL, NULL, 500001);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 413"));
	id = ask("POST", "/", NULL, NULL, 0);
	reply(3, "200", 100000, NULL);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	/* A head that must not pass. */
	w.hold = false;
	w.forbid = true;
	id = ask("POST", "/", NULL, NULL, 0);
	reply(5, "200", 100000, NULL);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	assert_int_equal(w.whole_responses, 1);
	assert_int_equal(w.ended, 4);
	finish();
}

/* Each allocation of nghttp2's in turn fails. */
static void test_out_of_memory(void **state)
{
	unsigned good = 0;

	for (size_t max = 0; max < 120000; max += 97) {
		w = (struct world){.budget = {.max = max}, .step = 65536};
		peer_init(&w.guest, true, 65535);
		peer_init(&w.server, false, 65535);
		w.h = http2_new(&ops, &w.budget, &w);
		if (w.h && http2_start_server(w.h) == 0) {
			int32_t id = ask("POST", "/", NULL, NULL, 1000);

			if (w.server.seen[id].ended)
				reply(id, "200", 1000, "0");
			good += w.guest.seen[id].ended && w.last_status == 200;
		}
		if (w.h)
			http2_free(w.h);
		assert_int_equal(w.budget.used, 0);
		assert_int_equal(w.ended, w.requests + w.unreadable);
		peer_done(&w.guest);
		peer_done(&w.server);
	}
	assert_in_range(good, 10, 1200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_resets),
		cmocka_unit_test(test_answers_of_our_own),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_lost_server),
		cmocka_unit_test(test_goaway),
		cmocka_unit_test(test_server_that_speaks_something_else),
		cmocka_unit_test(test_rapid_reset),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_whole_bodies),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
