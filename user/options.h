/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* options.h - the command line of realpeerd(8). */
#ifndef REALPEER_OPTIONS_H
#define REALPEER_OPTIONS_H

#include <stdbool.h>

enum options_action {
	OPTIONS_RUN,
	OPTIONS_CHECK, /* -n */
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

struct options {
	enum options_action action;
	const char *config_path; /* of argv, or the usual place */
	bool verbose;
};

/* 0; or -EINVAL, and getopt(3) has said why on standard error. */
int options_parse(int argc, char **argv, struct options *ret);

/* Several lines, each with its newline. */
const char *options_usage(void);

#endif
