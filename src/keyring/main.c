/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-keyring get|set|rm SERVICE [SANDBOX]: secrets in the desktop's keyring.
 *
 * A program of its own, run for one value at a time by hutch (set, rm) and hutch-secret (get), so
 * that libsecret and what it brings along is in no process that stays. A value comes from standard
 * input and goes to standard output. It only speaks to a keyring that runs: it starts none.
 *
 * Exit status: 0 done, 3 nothing under that name, 4 no keyring runs here, 1 anything else. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h" /* before GLib, which replaces MIN and MAX by the same */
#include "secret/secret.h"

#include <libsecret/secret.h>

enum { DONE, FAILED, USAGE, NONE, NO_KEYRING };

#define NAME "org.freedesktop.secrets"

static const SecretSchema schema = {"org.hutch.Secret", SECRET_SCHEMA_NONE,
	{{"service", SECRET_SCHEMA_ATTRIBUTE_STRING}, {"sandbox", SECRET_SCHEMA_ATTRIBUTE_STRING},
		{NULL, 0}},
	0, 0, 0, 0, 0, 0, 0, 0};

static int fail(GError *e)
{
	fprintf(stderr, "hutch-keyring: %s\n", e ? e->message : "failed");
	g_clear_error(&e);
	return FAILED;
}

/* A bus that runs: GLib would otherwise start one. */
static bool has_bus(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	_free_ char *path = runtime ? xasprintf("%s/bus", runtime) : NULL;
	struct stat st;

	return getenv("DBUS_SESSION_BUS_ADDRESS") || (path && stat(path, &st) == 0);
}

static bool keyring_runs(void)
{
	GDBusConnection *bus = has_bus() ? g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, NULL) : NULL;
	GVariant *answer = NULL;
	gboolean there = FALSE;

	if (bus)
		answer = g_dbus_connection_call_sync(bus, "org.freedesktop.DBus",
			"/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner",
			g_variant_new("(s)", NAME), G_VARIANT_TYPE("(b)"),
			G_DBUS_CALL_FLAGS_NO_AUTO_START, 5000, NULL, NULL);
	if (answer) {
		g_variant_get(answer, "(b)", &there);
		g_variant_unref(answer);
	}
	g_clear_object(&bus);
	return there;
}

static int get(GHashTable *attributes)
{
	GError *e = NULL;
	SecretValue *value = secret_service_lookup_sync(NULL, &schema, attributes, NULL, &e);
	int status = DONE;
	const char *text;
	gsize len;

	if (!value)
		return e ? fail(e) : NONE;
	text = secret_value_get(value, &len);
	if (fd_write_all(STDOUT_FILENO, text, len) < 0)
		status = FAILED;
	secret_value_unref(value); /* wipes */
	return status;
}

static int set(GHashTable *attributes, const char *service, const char *box)
{
	struct err err = {0};
	_secret_ struct secret *text = secret_read(STDIN_FILENO, &err);
	_free_ char *label = xasprintf("Hutch: %s%s%s", service, *box ? " for " : "", box);
	SecretValue *value;
	GError *e = NULL;

	if (!text) {
		fprintf(stderr, "hutch-keyring: %s\n", err.msg);
		return FAILED;
	}
	value = secret_value_new(secret_bytes(text), (gssize)secret_len(text), "text/plain");
	secret_service_store_sync(
		NULL, &schema, attributes, SECRET_COLLECTION_DEFAULT, label, value, NULL, &e);
	secret_value_unref(value);
	return e ? fail(e) : DONE;
}

static int rm(GHashTable *attributes)
{
	GError *e = NULL;
	gboolean existed = secret_service_clear_sync(NULL, &schema, attributes, NULL, &e);

	if (e)
		return fail(e);
	return existed ? DONE : NONE;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "", *box = argc > 3 ? argv[3] : "";
	struct rlimit core = {0};
	GHashTable *attributes;
	int status = USAGE;

	setrlimit(RLIMIT_CORE, &core);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (argc < 3 || argc > 4) {
		fprintf(stderr,
			"usage: hutch-keyring get|set|rm SERVICE [SANDBOX] (run by hutch)\n");
		return USAGE;
	}
	if (!keyring_runs()) {
		if (strcmp(verb, "get") == 0)
			fprintf(stderr, "hutch-keyring: no desktop keyring runs here\n");
		return NO_KEYRING;
	}
	attributes = secret_attributes_build(&schema, "service", argv[2], "sandbox", box, NULL);
	if (strcmp(verb, "get") == 0)
		status = get(attributes);
	else if (strcmp(verb, "set") == 0)
		status = set(attributes, argv[2], box);
	else if (strcmp(verb, "rm") == 0)
		status = rm(attributes);
	g_hash_table_unref(attributes);
	secret_service_disconnect();
	return status;
}
