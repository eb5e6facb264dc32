/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-secret's services: what is asked, fetched, kept and forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "secret/source.h"
#include "secret/store.h"

#define ANSWERS 64

static struct {
	char root[64];
	int stores[2]; /* own, all */
	struct loop *loop;
	struct broker *broker;
	struct {
		uint32_t id;
		uint16_t type;
		char text[200];
	} answers[ANSWERS];
	size_t n, n_old;
	uint32_t last_id;
} w;

static void on_answer(void *arg, const struct broker_msg *m, const void *data)
{
	uint8_t *exact = xmalloc(m->len + 1); /* ASan sees what is read beyond */

	assert_true(w.n < ANSWERS);
	if (m->len)
		memcpy(exact, data, m->len);
	assert_true(broker_check(m, exact, sizeof(*m) + m->len, false));
	w.answers[w.n].id = m->id;
	w.answers[w.n].type = m->type;
	snprintf(w.answers[w.n].text, sizeof(w.answers[w.n].text), "%.*s", (int)MIN(m->len, 199u),
		(char *)exact);
	w.n++;
	free(exact);
}

static void on_old(void *arg)
{
	w.n_old++;
}

static int make_world(void **state)
{
	static char one[] = "one", two[] = "two", *services[] = {one, two, NULL};
	char path[128];
	struct err err = {0};

	memset(&w, 0, sizeof(w));
	snprintf(w.root, sizeof(w.root), "/tmp/hutch-broker-XXXXXX");
	if (!mkdtemp(w.root))
		return -1;
	snprintf(path, sizeof(path), "%s/own", w.root);
	w.stores[0] = secret_store_open(path, &err);
	snprintf(path, sizeof(path), "%s/all", w.root);
	w.stores[1] = secret_store_open(path, &err);
	w.loop = loop_new(&err);
	w.broker = broker_new(w.loop, w.stores, "box", services, on_answer, on_old, NULL, &err);
	return w.broker ? 0 : -1;
}

static int drop_world(void **state)
{
	broker_free(w.broker);
	loop_free(w.loop);
	close(w.stores[0]);
	close(w.stores[1]);
	return fs_remove_tree(AT_FDCWD, w.root, NULL);
}

__attribute__((format(printf, 4, 5))) static void refer(
	int store, const char *name, unsigned ttl_s, const char *fmt, ...)
{
	_source_ struct source s = {0};
	_free_ char *text = NULL;
	struct err err = {0};
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	if (source_parse(text, ttl_s, &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(source_save(store, name, &s, &err), 0);
}

static void store_value(int store, const char *name, const char *value)
{
	_secret_ struct secret *s = secret_new(value, strlen(value), NULL);

	assert_int_equal(secret_store_set(store, name, s, NULL), 0);
}

static bool ask_packet(uint16_t type, const void *data, size_t len)
{
	struct broker_msg m = {.type = type, .id = ++w.last_id, .len = (uint32_t)len};
	uint8_t *packet = xmalloc(sizeof(m) + len);
	bool ok;

	memcpy(packet, &m, sizeof(m));
	memcpy(packet + sizeof(m), data, len);
	ok = broker_packet(w.broker, packet, sizeof(m) + len);
	free(packet);
	return ok;
}

static uint32_t ask(const char *service)
{
	assert_true(ask_packet(BROKER_GET, service, strlen(service)));
	return w.last_id;
}

/* Serve the loop until there are @n answers. */
static void wait_answers(size_t n)
{
	for (int i = 0; i < 2400 && w.n < n; i++)
		assert_int_equal(loop_once(w.loop, 50, NULL), 0);
	assert_int_equal(w.n, n);
}

static void assert_answer(const char *service, uint16_t type, const char *text)
{
	uint32_t id = ask(service);

	wait_answers(w.n + 1 - (w.n && w.answers[w.n - 1].id == id));
	assert_int_equal(w.answers[w.n - 1].id, id);
	assert_int_equal(w.answers[w.n - 1].type, type);
	if (type == BROKER_FAILED)
		assert_non_null(strstr(w.answers[w.n - 1].text, text));
	else
		assert_string_equal(w.answers[w.n - 1].text, text);
}

/* How often the command that counts in a file has run. */
static size_t runs(void)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/runs", w.root);
	return stat(path, &st) < 0 ? 0 : (size_t)st.st_size;
}

static void counted(int store, unsigned ttl_s, const char *then)
{
	refer(store, "one", ttl_s, "cmd:printf x >>%s/runs; %s", w.root, then);
}

static void test_stored_and_none(void **state)
{
	assert_answer("one", BROKER_NONE, "");
	store_value(w.stores[1], "one", "stored");
	assert_answer("one", BROKER_LASTING, "stored");
}

static void test_only_its_services(void **state)
{
	store_value(w.stores[1], "three", "of others");
	assert_answer("three", BROKER_FAILED, "no such credential");
	assert_answer("../one", BROKER_FAILED, "no such credential");
	assert_answer("on", BROKER_FAILED, "no such credential");
	assert_answer("onee", BROKER_FAILED, "no such credential");
}

static void test_malformed(void **state)
{
	struct broker_msg m = {.type = BROKER_GET, .len = 3};

	assert_false(broker_packet(w.broker, &m, 0));
	assert_false(broker_packet(w.broker, &m, sizeof(m) - 1));
	assert_false(broker_packet(w.broker, &m, sizeof(m))); /* its length is wrong */
	assert_false(ask_packet(BROKER_VALUE, "one", 3));
	assert_false(ask_packet(BROKER_GET, "", 0));
	assert_false(ask_packet(BROKER_GET, "o\nn", 3));
	assert_false(ask_packet(0, "one", 3));
	assert_false(ask_packet(BROKER_TYPES, "one", 3));
	assert_int_equal(w.n, 0);
}

static void test_variable(void **state)
{
	setenv("HUTCH_TEST_TOKEN", "of the start", 1);
	refer(w.stores[1], "one", 1, "env:HUTCH_TEST_TOKEN");
	assert_answer("one", BROKER_LASTING, "of the start");
	unsetenv("HUTCH_TEST_TOKEN");
	assert_answer("one", BROKER_NONE, "");
	setenv("HUTCH_TEST_TOKEN", "", 1);
	assert_answer("one", BROKER_NONE, "");
}

static void test_file(void **state)
{
	refer(w.stores[1], "one", 1, "file:%s/token", w.root);
	assert_answer("one", BROKER_FAILED, "No such file");
	assert_int_equal(fs_write_file(w.stores[0], "../token", "first\n", 6, 0600, NULL), 0);
	assert_answer("one", BROKER_VALUE, "first");
	assert_int_equal(fs_write_file(w.stores[0], "../token", "second", 6, 0600, NULL), 0);
	assert_answer("one", BROKER_VALUE, "second");
	refer(w.stores[1], "one", 1, "file:%s", w.root);
	assert_answer("one", BROKER_FAILED, "not a regular file");
	refer(w.stores[1], "one", 1, "file:/dev/zero");
	assert_answer("one", BROKER_FAILED, "not a regular file");
}

static void test_command(void **state)
{
	refer(w.stores[1], "one", 60, "cmd:echo \"a $((6 * 7))\"");
	assert_answer("one", BROKER_LASTING, "a 42");
	refer(w.stores[1], "two", 60, "cmd:printf 'a\\nb\\r\\n'");
	assert_answer("two", BROKER_LASTING, "a\nb");
}

static void test_command_fails(void **state)
{
	static const struct {
		const char *cmd, *why;
	} rows[] = {{"echo partial; exit 3", "exit 3"}, {"kill -9 $$", "signal 9"},
		{"true", "printed nothing"}, {"echo", "printed nothing"},
		{"no-such-program-here 2>/dev/null", "exit 127"},
		{"head -c 65537 /dev/zero", "more than a value may have"},
		{"cat /dev/zero", "more than a value may have"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		refer(w.stores[1], "one", 60, "cmd:%s", rows[i].cmd);
		assert_answer("one", BROKER_FAILED, rows[i].why);
	}
	refer(w.stores[1], "one", 60, "cmd:head -c 65536 /dev/zero | tr '\\0' v");
	ask("one");
	wait_answers(w.n + 1);
	assert_int_equal(w.answers[w.n - 1].type, BROKER_LASTING);
}

static void test_left_behind(void **state)
{
	/* What the command leaves in the background holds its output open, and nothing up. */
	refer(w.stores[1], "one", 60, "cmd:sleep 2 & echo done");
	assert_answer("one", BROKER_LASTING, "done");
}

static void test_kept_for_its_time(void **state)
{
	counted(w.stores[1], 5, "echo v");
	for (int i = 0; i < 3; i++)
		assert_answer("one", BROKER_LASTING, "v");
	assert_int_equal(runs(), 1);
	assert_int_equal(w.n_old, 0);
	for (int s = 0; s < 120 && w.n_old == 0; s++)
		loop_once(w.loop, 1000, NULL);
	assert_int_equal(w.n_old, 1); /* who was told that it lasts is told that it did */
	assert_answer("one", BROKER_LASTING, "v");
	assert_int_equal(runs(), 2);
}

static void test_failure_is_not_repeated_at_once(void **state)
{
	counted(w.stores[1], 60, "exit 1");
	for (int i = 0; i < 5; i++)
		assert_answer("one", BROKER_FAILED, "exit 1");
	assert_int_equal(runs(), 1);
	counted(w.stores[1], 60, "echo better"); /* a new reference is tried at once */
	assert_answer("one", BROKER_LASTING, "better");
}

static void test_questions_share_a_run(void **state)
{
	counted(w.stores[1], 60, "sleep 0.2; echo v");
	for (int i = 0; i < 16; i++)
		ask("one");
	assert_int_equal(w.n, 0);
	ask("one");
	assert_int_equal(w.n, 1);
	assert_int_equal(w.answers[0].type, BROKER_FAILED);
	wait_answers(17);
	for (size_t i = 1; i < 17; i++)
		assert_string_equal(w.answers[i].text, "v");
	assert_int_equal(runs(), 1);
}

static void test_forgotten_when_removed(void **state)
{
	bool existed;

	counted(w.stores[1], 60, "echo v");
	assert_answer("one", BROKER_LASTING, "v");
	assert_int_equal(secret_store_remove(w.stores[1], "one", &existed, NULL), 0);
	broker_recheck(w.broker);
	assert_answer("one", BROKER_NONE, "");
	counted(w.stores[1], 60, "echo v");
	assert_answer("one", BROKER_LASTING, "v");
	assert_int_equal(runs(), 2);
}

static void test_set_again_is_run_again(void **state)
{
	counted(w.stores[1], 60, "echo v");
	assert_answer("one", BROKER_LASTING, "v");
	counted(w.stores[1], 60,
		"echo v"); /* the same words: the keyring's value may have changed */
	assert_answer("one", BROKER_LASTING, "v");
	assert_int_equal(runs(), 2);
}

static void test_changed_while_it_runs(void **state)
{
	refer(w.stores[1], "one", 60, "cmd:sleep 30; echo old");
	ask("one");
	loop_once(w.loop, 10, NULL);
	store_value(w.stores[1], "one", "new");
	broker_recheck(w.broker);
	wait_answers(1);
	assert_string_equal(w.answers[0].text, "new");
	refer(w.stores[1], "one", 60, "cmd:sleep 0.3; echo old");
	ask("one");
	refer(w.stores[1], "one", 60, "cmd:echo newer"); /* nobody looks: the end does */
	wait_answers(2);
	assert_string_equal(w.answers[1].text, "newer");
}

static void test_own_wins(void **state)
{
	bool existed;

	refer(w.stores[1], "one", 60, "cmd:echo all");
	assert_answer("one", BROKER_LASTING, "all");
	refer(w.stores[0], "one", 60, "cmd:echo own");
	assert_answer("one", BROKER_LASTING, "own");
	assert_int_equal(secret_store_remove(w.stores[0], "one", &existed, NULL), 0);
	assert_answer("one", BROKER_LASTING, "all");
}

static void test_ends_while_it_runs(void **state)
{
	refer(w.stores[1], "one", 60, "cmd:sleep 30");
	ask("one"); /* drop_world ends it */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_world, drop_world)
	const struct CMUnitTest tests[] = {T(test_stored_and_none), T(test_only_its_services),
		T(test_malformed), T(test_variable), T(test_file), T(test_command),
		T(test_command_fails), T(test_left_behind), T(test_kept_for_its_time),
		T(test_failure_is_not_repeated_at_once), T(test_questions_share_a_run),
		T(test_forgotten_when_removed), T(test_set_again_is_run_again),
		T(test_changed_while_it_runs), T(test_own_wins), T(test_ends_while_it_runs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
