/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* options.c - see options.h. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "config.h"

const char *options_usage(void)
{
	return "Usage: realpeerd [-c FILE] [-n] [-f] [-v]\n"
	       "\n"
	       "  -c, --config FILE  read FILE (" CONFIG_DEFAULT_FILE ")\n"
	       "  -n, --check        check it and say what each listener would "
	       "get\n"
	       "  -f, --foreground   stay in the foreground; it always does\n"
	       "  -v, --verbose      log everything\n"
	       "  -V, --version      print the version\n"
	       "  -h, --help         print this\n";
}

int options_parse(int argc, char **argv, struct options *ret)
{
	static const struct option long_options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'},
		{"foreground", no_argument, NULL, 'f'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options options = {.config_path = CONFIG_DEFAULT_FILE};
	int option;

	optind = 0; /* glibc: from the start, however often we are called */
	while ((option = getopt_long(argc, argv, "c:nfvVh", long_options,
				     NULL)) != -1) {
		switch (option) {
		case 'c':
			options.config_path = optarg;
			break;
		case 'n':
			options.action = OPTIONS_CHECK;
			break;
		case 'f':
			break;
		case 'v':
			options.verbose = true;
			break;
		case 'V':
			options.action = OPTIONS_VERSION;
			break;
		case 'h':
			options.action = OPTIONS_HELP;
			break;
		default:
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "realpeerd: unexpected '%s'\n", argv[optind]);
		return -EINVAL;
	}
	*ret = options;
	return 0;
}
