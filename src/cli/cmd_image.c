/* SPDX-License-Identifier: Apache-2.0 */
/* hutch image: what sandboxes boot from. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/images.h"

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

/* Whether a sandbox was made of the image @pin. */
static int in_use(const char *pin, struct err *err)
{
	struct strv names = {0};
	int result = boxes_names(&names, err);

	for (size_t i = 0; result == 0 && i < names.n; i++) {
		struct box_spec s;
		struct err unreadable;

		if (boxes_spec(names.v[i], &s, &unreadable) == 0 &&
			(strcmp(s.image, pin) == 0 || strv_has(&s.layers, pin))) {
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
	static const char *const verbs[] = {"ls", "build", "pull", "rm"};
	struct strv names = {0};
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_add(&names, verbs[i]);
	status = *verb ? cli_no_verb("image", verb, &names) : cli_usage("image");
	strv_done(&names);
	return status;
}

int cmd_image(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'}, {"force", no_argument, NULL, 'f'}, {0}};
	const char *verb = argc > 1 ? argv[1] : "";
	bool ls = strcmp(verb, "ls") == 0, making = strcmp(verb, "build") == 0;
	bool pulling = strcmp(verb, "pull") == 0, removing = strcmp(verb, "rm") == 0;
	bool json = false, force = false;
	_free_ char *name = xasprintf("image %s", verb); /* for messages */
	struct err err;
	int c, status = 0;

	if (!ls && !making && !pulling && !removing)
		return unknown_verb(verb);
	argv[1] = name;
	argc--;
	argv++;
	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c == 'j' && ls)
			json = true;
		else if (c == 'f' && making)
			force = true;
		else
			return c == '?' ? CLI_FAILED : cli_usage(name);
	}
	if (pulling || removing ? optind >= argc : optind != argc)
		return cli_usage(name);
	if (ls)
		return image_list(stdout, json, &err) < 0 ? cli_fail(&err) : 0;
	if (making)
		return build(force);
	for (int i = optind; i < argc && status == 0; i++)
		status = pulling ? pull(argv[i]) : remove_one(argv[i]);
	return status;
}
