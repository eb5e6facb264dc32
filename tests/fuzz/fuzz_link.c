/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the processes: the first byte is the number of descriptors, the rest the packet
 * as it was received. Checked: what is accepted has a known type, says its own size, and is refused
 * with any other number of descriptors, or a byte more or less. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/link.h"

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			fprintf(stderr, "violated: %s\n", #c);                                     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct link_packet p;
	size_t nfds, len;

	if (size == 0)
		return 0;
	nfds = data[0] % 9;
	len = MIN(size - 1, sizeof(p));
	memset(&p, 0, sizeof(p.m));
	memcpy(&p, data + 1, len);
	if (!link_check(&p, len, nfds))
		return 0;
	CHECK(p.m.type > 0 && p.m.type < LINK_TYPES);
	CHECK(strcmp(link_type_name(p.m.type), "unknown") != 0);
	CHECK(p.m.len <= LINK_DATA_MAX && len == sizeof(p.m) + p.m.len);
	for (size_t n = 0; n < 9; n++)
		CHECK(n == nfds || !link_check(&p, len, n));
	CHECK(!link_check(&p, len + 1, nfds) && !link_check(&p, len - 1, nfds));
	return 0;
}
