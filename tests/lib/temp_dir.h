/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * temp_dir.h - a directory of its own for each test that needs files, made by
 * mkdtemp() and removed with all that is in it.
 */
#ifndef REALPEER_TEMP_DIR_H
#define REALPEER_TEMP_DIR_H

#include <stddef.h>

/* cmocka fixtures: *state is the path. */
int temp_dir_setup(void **state);
int temp_dir_teardown(void **state);

/* "DIRECTORY/NAME" in memory that stays valid until the teardown. */
const char *temp_path(void **state, const char *name);

/* Writes a file, making its directory; returns its path like temp_path(). */
const char *temp_write(void **state, const char *name, const void *bytes,
		       size_t len);
const char *temp_text(void **state, const char *name, const char *text);

#endif
