/* SPDX-License-Identifier: Apache-2.0 */
/* A test hook: a confined thread tries what an intruder would. Only in builds with -Dtests=true. */
#pragma once

#ifdef HUTCH_TEST_HOOKS
/* When the environment's HUTCH_TEST_PROBE is "@who:ATTEMPT", make the attempt and report its errno (0: it
 * worked) in one line on stderr. What the filter does not answer with an error ends the process before. */
void jail_probe(const char *who);
#else
#define jail_probe(who) ((void)0)
#endif
