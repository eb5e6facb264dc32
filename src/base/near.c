/* SPDX-License-Identifier: Apache-2.0 */
/* The nearest word, by edits. */
#include "base/near.h"

#include <string.h>
#include <strings.h>

/* Edits (insert, delete, replace, swap neighbours) between two words; those of more than 24
 * characters are too far apart to matter. */
static unsigned distance(const char *a, const char *b)
{
	unsigned d[26][26];
	size_t na = strlen(a), nb = strlen(b);

	if (na > 24 || nb > 24)
		return 99;
	for (unsigned i = 0; i <= na; i++)
		d[i][0] = i;
	for (unsigned k = 0; k <= nb; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= na; i++) {
		for (size_t k = 1; k <= nb; k++) {
			unsigned best = d[i - 1][k - 1] + (a[i - 1] != b[k - 1]);

			best = MIN(best, d[i - 1][k] + 1);
			best = MIN(best, d[i][k - 1] + 1);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
				best = MIN(best, d[i - 2][k - 2] + 1);
			d[i][k] = best;
		}
	}
	return d[na][nb];
}

const char *near_word(const char *given, const struct strv *words)
{
	const char *best = NULL;
	unsigned best_d = strlen(given) < 4 ? 2 : 3; /* accept less than this */

	for (size_t i = 0; i < words->n; i++) {
		unsigned d = strcasecmp(words->v[i], given) == 0 ? 0 : distance(words->v[i], given);

		if (d < best_d) {
			best_d = d;
			best = words->v[i];
		}
	}
	return best;
}
