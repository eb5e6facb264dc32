/* SPDX-License-Identifier: Apache-2.0 */
/* hutch image: what sandboxes boot from. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/images.h"
#include "image/prune.h"

static int build(bool force)
{
	struct err err;

	if (image_build(force, images_progress, NULL, &err) < 0)
		return cli_fail(&err);
	cli_progress(NULL);
	return image_list(stdout, false, &err) < 0 ? cli_fail(&err) : 0;
}

static int pull(const char *ref)
{
	_free_ char *pinned = NULL, *path = NULL, *root_pinned = NULL;
	struct image_config config;
	struct err err;
	int result;

	if (image_is_base(ref))
		return cli_failf("image pull: %s is Hutch's own image: hutch image build", ref);
	if (image_resolve(ref, &pinned, &config, &err) < 0)
		return cli_fail(&err);
	image_config_done(&config);
	result = image_root(pinned, NULL, images_progress, NULL, &path, &root_pinned, &err);
	cli_progress(NULL);
	if (result < 0)
		return cli_fail(&err);
	printf("%s\n", pinned);
	return 0;
}

static bool is_made_of(const struct box_spec *s, const char *pin)
{
	bool same = image_is_same(s->image, pin);

	for (size_t i = 0; i < s->layers.n; i++)
		same |= image_is_same(s->layers.v[i], pin);
	return same;
}

/* Whether a sandbox was made of the image @pin. */
static int in_use(const char *pin, struct err *err)
{
	struct strv names = {0};
	int result = boxes_names(&names, err);

	for (size_t i = 0; result == 0 && i < names.n; i++) {
		struct box_spec s;
		struct err unreadable;

		if (boxes_spec(names.v[i], &s, &unreadable) == 0 && is_made_of(&s, pin)) {
			err_set(err, ERR_USER, "%s: sandbox %s is made of it", pin, names.v[i]);
			result = err_hint(err, "hutch rm %s", names.v[i]);
		}
		spec_done(&s);
	}
	strv_done(&names);
	return result;
}

static int remove_one(const char *ref)
{
	_free_ char *pin = NULL, *tag = NULL;
	struct err err;
	bool gone;

	if (image_known(ref, &pin, &tag, &err) < 0 ||
		image_remove(pin, tag, in_use, &gone, &err) < 0)
		return cli_fail(&err);
	printf("%s\n", gone ? pin : tag);
	return 0;
}

static int unknown_verb(const char *verb)
{
	static const char *const verbs[] = {"ls", "build", "pull", "rm", "prune"};
	struct strv names = {0};
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_add(&names, verbs[i]);
	status = *verb ? cli_no_verb("image", verb, &names) : cli_usage("image");
	strv_done(&names);
	return status;
}

static int add_users(struct image_users *u, struct err *err)
{
	struct strv names = {0};
	int result = boxes_names(&names, err);

	for (size_t i = 0; result == 0 && i < names.n; i++) {
		struct box_conn conn = {.fd = -1};
		struct err ignored;
		struct box_spec s;

		result = boxes_spec(names.v[i], &s, err);
		if (result == 0)
			image_users_add(u, s.image, &s.layers);
		else
			err_wrap(err, "sandbox %s", names.v[i]);
		spec_done(&s);
		if (result == 0 && box_find(names.v[i], &conn, &ignored) != 0)
			u->running = true;
		box_conn_close(&conn);
	}
	strv_done(&names);
	return result;
}

static int prune(bool dry_run, bool json)
{
	struct err err;

	return image_prune(&(struct image_prune){.dry_run = dry_run,
				   .json = json,
				   .out = stdout,
				   .progress = images_progress,
				   .users = add_users},
		       &err) < 0
		       ? cli_fail(&err)
		       : 0;
}

int cmd_image(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
		{"force", no_argument, NULL, 'f'}, {"dry-run", no_argument, NULL, 'n'}, {0}};
	const char *verb = argc > 1 ? argv[1] : "";
	bool ls = strcmp(verb, "ls") == 0, making = strcmp(verb, "build") == 0;
	bool pulling = strcmp(verb, "pull") == 0, removing = strcmp(verb, "rm") == 0;
	bool pruning = strcmp(verb, "prune") == 0;
	bool json = false, force = false, dry_run = false;
	_free_ char *name = xasprintf("image %s", verb); /* for messages */
	struct err err;
	int c, status = 0;

	if (!ls && !making && !pulling && !removing && !pruning)
		return unknown_verb(verb);
	argv[1] = name;
	argc--;
	argv++;
	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c == 'j' && (ls || pruning))
			json = true;
		else if (c == 'f' && making)
			force = true;
		else if (c == 'n' && pruning)
			dry_run = true;
		else
			return c == '?' ? CLI_FAILED : cli_usage(name);
	}
	if (pulling || removing ? optind >= argc : optind != argc)
		return cli_usage(name);
	if (ls)
		return image_list(stdout, json, &err) < 0 ? cli_fail(&err) : 0;
	if (making)
		return build(force);
	if (pruning)
		return prune(dry_run, json);
	for (int i = optind; i < argc && status == 0; i++)
		status = pulling ? pull(argv[i]) : remove_one(argv[i]);
	return status;
}
