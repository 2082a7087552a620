/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fuzz.h - what the fuzz targets share. A target is a program that libFuzzer
 * calls with inputs; it ends at the first one for which something does not
 * hold, and libFuzzer keeps that input.
 */
#ifndef REALPEER_TESTS_FUZZ_H
#define REALPEER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* libFuzzer's entry points; the second one is optional. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Tells what does not hold, and aborts. */
#define holds(condition)                                             \
	do {                                                         \
		if (!(condition))                                    \
			fuzz_failed(#condition, __FILE__, __LINE__); \
	} while (0)

_Noreturn void fuzz_failed(const char *condition, const char *file,
			   unsigned int line);

/* Numbers that follow from the input alone, so that a finding comes again. */
struct dice {
	uint64_t state;
};

struct dice dice_make(const uint8_t *data, size_t len);
size_t dice_below(struct dice *dice, size_t n); /* 0 to n - 1 */

/* `len` bytes in memory that ends with them, from malloc(). */
uint8_t *fuzz_copy(const uint8_t *data, size_t len);

/* A directory of this process, removed with what is in it at the end. */
const char *fuzz_directory(void);

/* Writes a file of that directory. */
void fuzz_write(const char *path, const void *data, size_t len);

#endif
