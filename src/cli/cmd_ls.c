/* SPDX-License-Identifier: Apache-2.0 */
/* hutch ls: the sandboxes of this user and whether they run. */
#include <getopt.h>
#include <stdio.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/ports.h"

struct row {
	struct box_spec spec;
	const char *state, *engine; /* borrowed from status or constants */
	json_t *status, *ports;	    /* owned, or NULL */
};

/* As box_find; with 1 it has said how it is. One that ends at this moment is asked again. */
static int ask(const char *name, struct box_conn *c, json_t **ret_status)
{
	for (int i = 0; i < 2; i++) {
		int found = box_find(name, c, NULL);

		if (found != 1 ||
			box_request(c, json_pack("{s:s}", "op", "status"), ret_status, NULL, NULL) == 0)
			return found;
		box_conn_close(c);
	}
	return -1;
}

static void look(const char *name, bool ports, struct row *r)
{
	struct box_conn c;
	int found = ask(name, &c, &r->status);

	r->state = found == 0 ? "stopped" : "unknown"; /* unknown: it runs and cannot be reached */
	r->engine = "";
	if (found != 1)
		return;
	r->state = json_string_value(json_object_get(r->status, "state"));
	r->engine = json_string_value(json_object_get(r->status, "engine"));
	if (ports)
		box_request(&c, json_pack("{s:s}", "op", "ports"), &r->ports, NULL, NULL);
	if (!r->state)
		r->state = "unknown";
	if (!r->engine)
		r->engine = "";
	box_conn_close(&c);
}

static json_t *row_json(const struct row *r)
{
	json_t *mounts = json_array();

	for (size_t i = 0; i < r->spec.n_mounts; i++)
		json_array_append_new(mounts,
			json_pack("{s:s, s:b}", "path", r->spec.mounts[i].guest_path, "readOnly",
				r->spec.mounts[i].read_only));
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:o, s:o}", "name", r->spec.name, "agent",
		r->spec.agent, "state", r->state, "engine", r->engine, "cpus", (int)r->spec.cpus,
		"memoryBytes", (json_int_t)r->spec.memory_bytes, "workspaces", mounts, "ports",
		ports_list(&r->spec, json_object_get(r->ports, "ports")));
}

static void row_print(const struct row *r)
{
	printf("%-24s %-12s %-9s %-16s %s%s\n", r->spec.name, r->spec.agent, r->state,
		r->engine[0] == 'q' ? "qemu (emulated)" : r->engine,
		r->spec.n_mounts ? r->spec.mounts[0].guest_path : "",
		r->spec.n_mounts && r->spec.mounts[0].read_only ? " (read-only)" : "");
}

int cmd_ls(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct strv names = {0};
	json_t *list = json_array();
	bool json = false;
	struct err err;
	int c;

	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c != 'j')
			return CLI_FAILED;
		json = true;
	}
	if (optind != argc)
		return cli_usage("ls");
	if (boxes_names(&names, &err) < 0)
		return cli_fail(&err);
	if (!json && names.n)
		printf("%-24s %-12s %-9s %-16s %s\n", "NAME", "AGENT", "STATE", "ENGINE", "WORKSPACE");
	for (size_t i = 0; i < names.n; i++) {
		struct row r = {0};

		if (boxes_spec(names.v[i], &r.spec, &err) == 0) {
			look(names.v[i], json, &r);
			if (json)
				json_array_append_new(list, row_json(&r));
			else
				row_print(&r);
		} else if (!json) {
			printf("%-24s %-12s damaged: %s\n", names.v[i], "?", err.msg);
		} else {
			json_array_append_new(list,
				json_pack("{s:s, s:s, s:s}", "name", names.v[i], "state", "damaged",
					"error", err.msg));
		}
		json_decref(r.status);
		json_decref(r.ports);
		spec_done(&r.spec);
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(list);
	strv_done(&names);
	return 0;
}
