/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* temp_dir.c - see temp_dir.h. */
#include "temp_dir.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define PATHS_MAX 4096

static char *paths[PATHS_MAX];
static size_t n_paths;

int temp_dir_setup(void **state)
{
	char *path = strdup("/tmp/realpeer-test-XXXXXX");

	*state = path;
	return path && mkdtemp(path) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type,
			struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

int temp_dir_teardown(void **state)
{
	int r = nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

	while (n_paths)
		free(paths[--n_paths]);
	free(*state);
	return r;
}

const char *temp_path(void **state, const char *name)
{
	assert_true(n_paths < PATHS_MAX);
	assert_true(asprintf(&paths[n_paths], "%s/%s", (char *)*state, name) >=
		    0);
	return paths[n_paths++];
}

const char *temp_write(void **state, const char *name, const void *bytes,
		       size_t len)
{
	const char *path = temp_path(state, name), *slash = strchr(name, '/');
	char directory[256];
	FILE *file;

	if (slash) {
		snprintf(directory, sizeof(directory), "%s/%.*s",
			 (char *)*state, (int)(slash - name), name);
		assert_true(mkdir(directory, 0700) == 0 || errno == EEXIST);
	}
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	return path;
}

const char *temp_text(void **state, const char *name, const char *text)
{
	return temp_write(state, name, text, strlen(text));
}
