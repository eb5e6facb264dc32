/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that the user may change. */
#include "cli/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "cli/boxes.h"

static int lock_rules(struct err *err)
{
	_free_ char *dir = path_config("", err), *path = dir ? fs_join(dir, "policy.lock") : NULL;
	_close_ int fd = -1;
	int r;

	if (!path)
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, "%s", path);
	do
		r = flock(fd, LOCK_EX);
	while (r < 0 && errno == EINTR);
	return r < 0 ? err_errno(err, "%s", path) : steal_fd(&fd);
}

int ruleset_open(const char *box, struct ruleset *ret, struct err *err)
{
	int rc;

	*ret = (struct ruleset){.box = box, .lock = lock_rules(err)};
	if (ret->lock < 0)
		return -1;
	rc = box ? boxes_spec(box, &ret->spec, err) : spec_rules_load(&ret->user, err);
	ret->rules = box ? &ret->spec.net.rules : &ret->user.rules;
	ret->n = box ? &ret->spec.net.n_rules : &ret->user.n_rules;
	if (rc < 0)
		ruleset_close(ret);
	return rc;
}

void ruleset_close(struct ruleset *r)
{
	spec_done(&r->spec);
	spec_rules_done(&r->user);
	close_and_reset(&r->lock);
}

bool ruleset_add(struct ruleset *r, bool allow, const char *target, const char *source)
{
	for (size_t i = 0; i < *r->n; i++)
		if ((*r->rules)[i].allow == allow && (*r->rules)[i].phase == SPEC_ALWAYS &&
			strcmp((*r->rules)[i].target, target) == 0)
			return false;
	*r->rules = xrealloc(*r->rules, *r->n + 1, sizeof(**r->rules));
	(*r->rules)[(*r->n)++] = (struct spec_rule){
		.allow = allow, .target = xstrdup(target), .source = xstrdup(source)};
	return true;
}

static void rule_done(struct spec_rule *rule)
{
	free(rule->target);
	free(rule->source);
}

size_t ruleset_remove(struct ruleset *r, const char *target, const char *source, size_t *ret_kept)
{
	struct spec_rule *list = *r->rules;
	size_t n = 0, found = 0;

	*ret_kept = 0;
	for (size_t i = 0; i < *r->n; i++) {
		bool same = !target || strcmp(list[i].target, target) == 0;
		bool mine = source ? strcmp(list[i].source, source) == 0
				   : strncmp(list[i].source, "user", 4) == 0;

		found += same;
		*ret_kept += same && !mine;
		if (same && mine)
			rule_done(&list[i]);
		else
			list[n++] = list[i];
	}
	*r->n = n;
	return found;
}

static int reload(const char *name, struct err *err)
{
	struct box_conn conn;
	int result;

	if (box_connect(name, &conn, NULL) < 0)
		return 0; /* it reads them when it starts */
	result = box_request(&conn, json_pack("{s:s}", "op", "reload"), NULL, NULL, err);
	box_conn_close(&conn);
	return result < 0 ? err_wrap(err, "sandbox %s", name) : 0;
}

static int reload_all(struct err *err)
{
	struct strv names = {0};
	int result = boxes_names(&names, err);

	/* One that fails keeps none of the others from hearing of it. */
	for (size_t i = 0; result >= 0 && i < names.n; i++)
		if (reload(names.v[i], result == 0 ? err : NULL) < 0)
			result = 1;
	strv_done(&names);
	return result == 0 ? 0 : -1;
}

int ruleset_commit(struct ruleset *r, struct err *err)
{
	if (r->box)
		return boxes_save_spec(&r->spec, err) < 0 ? -1 : reload(r->box, err);
	return spec_rules_save(&r->user, err) < 0 ? -1 : reload_all(err);
}

int rules_show(struct spec_net *net, struct err *err)
{
	struct spec_rules user;
	int rc = spec_rules_load(&user, err);

	for (size_t i = 0; rc == 0 && i < user.n_rules; i++) {
		net->rules = xrealloc(net->rules, net->n_rules + 1, sizeof(*net->rules));
		net->rules[net->n_rules++] = (struct spec_rule){.allow = user.rules[i].allow,
			.target = xstrdup(user.rules[i].target),
			.source = xstrdup(user.rules[i].source)};
	}
	spec_rules_done(&user);
	return rc;
}

/* What is in force when the sandbox is used. */
static int add_all(struct policy *p, const struct spec_rule *rules, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (rules[i].phase != SPEC_INSTALL &&
			policy_add(p, rules[i].target, rules[i].allow, rules[i].source, err) < 0)
			return -1;
	return 0;
}

int rules_policy(const char *box, struct policy *ret, struct err *err)
{
	struct spec_rules user = {0};
	struct box_spec spec = {0};
	struct policy p = {0};
	int rc = box ? boxes_spec(box, &spec, err) : 0;

	if (rc == 0)
		rc = spec_rules_load(&user, err);
	if (rc == 0)
		rc = add_all(&p, spec.net.rules, spec.net.n_rules, err);
	if (rc == 0)
		rc = add_all(&p, user.rules, user.n_rules, err);
	spec_done(&spec);
	spec_rules_done(&user);
	if (rc < 0)
		policy_done(&p);
	else
		*ret = p;
	return rc;
}
