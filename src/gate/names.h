/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic addresses: one per name, for the life of the sandbox. Pure data structure.
 *
 * An address once given is never given to another name, so a connection to it identifies the name
 * that the guest looked up. When the table is full new names get none. Names that no rule allows
 * may fill only half of it, so that a flood of them cannot starve the allowed ones. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_MAX  65536u
#define NAMES_BASE 0xc6120000u /* 198.18.0.0, host order */
#define NAMES_MASK 0xfffe0000u /* /15 */

struct names;

/* @key: 16 random bytes; guest-chosen names must not collide on purpose. The result is owned. */
struct names *names_new(const uint8_t key[static 16]);
void names_free(struct names *n); /* NULL is fine */
/* The address (host order) of @name (canonical), given on first use; 0 when the table is full.
 * @reachable: some rule may allow it; decides only which share of the table a new name takes. */
uint32_t names_addr(struct names *n, const char *name, bool reachable);
size_t names_count(const struct names *n);
/* The name behind an address, or NULL. Borrowed until names_free. */
const char *names_name(const struct names *n, uint32_t addr);
static inline bool names_is_synthetic(uint32_t addr)
{
	return (addr & NAMES_MASK) == NAMES_BASE;
}
