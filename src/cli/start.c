/* SPDX-License-Identifier: Apache-2.0 */
/* From a plan to a running sandbox, and back. */
#include "cli/start.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/paths.h"
#include "cli/cli.h"
#include "cli/images.h"
#include "cli/interrupt.h"
#include "image/virt.h"

#define SHOW_BYTES 4000

/* The engine that will run, and whether what it needs is there. */
static int check_engine(const struct box_spec *s, enum spec_engine *ret, struct err *err)
{
	_free_ char *qemu = path_find("qemu-system-x86_64");
	struct kernel_pack pack = {0};
	int result = image_kernel(&pack, err);

	if (result == 0)
		result = virt_engine(s->engine, &pack, ret, err);
	kernel_pack_done(&pack);
	if (result < 0 || *ret == SPEC_ENGINE_KVM || qemu)
		return result;
	err_set(err, ERR_ENV, "qemu-system-x86_64 is not installed");
	return err_hint(err, "apt install qemu-system-x86");
}

int start_check(struct box_spec *s, struct err *err)
{
	_free_ char *path = NULL, *pinned = NULL, *runtime = path_runtime(err);
	enum spec_engine engine;
	int result;

	if (!runtime || check_engine(s, &engine, err) < 0)
		return -1;
	result = image_root(s->image, &s->layers, images_progress, NULL, &path, &pinned, err);
	cli_progress(NULL);
	if (result < 0)
		return -1;
	free(s->image);
	s->image = steal_ptr(&pinned);
	return 0;
}

/* The end of a log of a sandbox that is about to be removed, without control characters. */
static void show_log(const char *name, const char *file)
{
	_free_ char *path = boxes_path(name, file);
	FILE *f = fopen(path, "re");
	char line[512];
	long size;

	if (!f)
		return;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	fseek(f, size > SHOW_BYTES ? size - SHOW_BYTES : 0, SEEK_SET);
	if (size > SHOW_BYTES && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		fprintf(stderr, "  | ");
		cli_print(stderr, line);
	}
	fclose(f);
}

void start_show_logs(const char *name, struct err *err)
{
	show_log(name, "setup.log");
	/* "hutch logs" would find nothing of it any more: show what it would have said. */
	if (strncmp(err->hint, "hutch logs", 10) == 0) {
		show_log(name, "console.log");
		show_log(name, "box.log");
		err->hint[0] = '\0';
	}
}

int start_box(const struct box_spec *s, bool is_new, struct box_conn *conn, struct err *err)
{
	struct err ignored;
	int result;

	if (box_connect(s->name, conn, NULL) < 0) {
		_free_ char *line = NULL, *path = NULL, *pinned = NULL;
		enum spec_engine engine;

		/* Layers that were removed meanwhile are fetched once more. */
		if (check_engine(s, &engine, err) < 0 ||
			image_root(s->image, &s->layers, images_progress, NULL, &path, &pinned, err) < 0)
			return -1;
		line = xasprintf("%s %s (engine %s)", is_new ? "creating" : "starting", s->name,
			virt_engine_text(engine));
		cli_progress(line);
	} else {
		box_conn_close(conn);
	}
	if (is_new)
		interrupt_begin();
	result = box_up(s->name, s->remove_on_exit, cli_progress, conn, err);
	interrupt_end();
	cli_progress(NULL);
	if (result < 0 && is_new && interrupt_signal()) {
		start_undo(s->name, conn);
		box_conn_close(conn);
	} else if (result < 0 && is_new) {
		start_show_logs(s->name, err);
		boxes_delete(s->name, &ignored);
	}
	return result;
}

void start_undo(const char *name, struct box_conn *conn)
{
	struct err err;

	if (conn->fd < 0)
		box_connect(name, conn, NULL);
	if (conn->fd < 0 ||
		box_request(conn,
			json_pack("{s:s, s:b, s:b}", "op", "stop", "kill", 1, "remove", 1), NULL, NULL,
			&err) < 0 ||
		boxes_exists(name))
		boxes_delete(name, &err);
}

char *start_name(const char *stem)
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	unsigned char raw[5] = {0};
	char tail[6] = "";

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		raw[0] = (unsigned char)getpid();
	for (size_t i = 0; i < sizeof(raw); i++)
		tail[i] = letters[raw[i] % (sizeof(letters) - 1)];
	return xasprintf("%.50s-%s", stem, tail);
}
