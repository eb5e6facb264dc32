/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over a committed corpus: regression tests without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data, *exact;
	size_t n;

	if (!f)
		return -1;
	data = malloc(1 << 20);
	n = fread(data, 1, 1 << 20, f);
	fclose(f);
	/* An exact-size copy, so that the sanitizer sees one byte too far. */
	exact = malloc(n ? n : 1);
	memcpy(exact, data, n);
	free(data);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 0;
}

int main(int argc, char **argv)
{
	struct dirent **names = NULL;
	int n, ran = 0;

	if (argc != 2)
		return 2;
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	n = scandir(argv[1], &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char path[4096];

		if (names[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", argv[1], names[i]->d_name);
			if (replay(path) == 0) {
				printf("ok %d - %s\n", ++ran, names[i]->d_name);
				fflush(stdout);
			}
		}
		free(names[i]);
	}
	free(names);
	if (ran == 0)
		printf("not ok 1 - no corpus in %s\n", argv[1]);
	printf("1..%d\n", ran ? ran : 1);
	return ran ? 0 : 1;
}
