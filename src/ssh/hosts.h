/* SPDX-License-Identifier: Apache-2.0 */
/* Which host keys belong to a host: known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
#pragma once

#include "base/mem.h"

/* Add the fingerprints of the keys that the text of a known_hosts file has for @host, "name" or
 * "[name]:port". Lines with a marker are left out: certificate authorities, and keys that are
 * revoked. */
void ssh_hosts_find(const char *text, const char *host, struct strv *ret);
