/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_file.h - realpeer.conf and its drop-ins as sections and settings:
 * text with its place, before values are read and inherited.
 */
#ifndef REALPEER_CONFIG_FILE_H
#define REALPEER_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config_key.h"

/* A value as it stands in a file. */
struct setting {
	char *text;	  /* owned; NULL: not set */
	const char *file; /* one of config_files.names */
	unsigned int line;
	struct setting *overridden; /* by this one, owned */
};

/* A section, before anything is inherited. */
struct section {
	char name[RP_NAME_LEN]; /* "" for [global] */
	const char *file;	/* NULL: [global] stands nowhere */
	unsigned int line;
	/* Told already, and what follows from it need not be told: */
	uint32_t doubted; /* 1 << key: something else may have been meant */
	bool unreadable;  /* a line, which may have set any key */
	struct setting settings[KEY_COUNT];
};

struct config_files {
	struct config_place place; /* set .errors; the rest is zero */
	char **names;		   /* array and names owned */
	size_t n_names;
	struct section global;
	struct section *listeners; /* array, owned */
	size_t n_listeners;
	bool no_memory;
	/* private: where the reading is */
	struct section *current; /* NULL: its keys are not looked at */
	enum config_key key;	 /* the last one, KEY_NONE: skipped */
	bool in_section;
};

_Static_assert(KEY_COUNT <= 32, "section.doubted has a bit for each key");

/* Reads `path` and the *.conf files of conf.d beside it; tells mistakes. */
void config_files_read(struct config_files *files, const char *path);
void config_files_clear(struct config_files *files);

/*
 * Is what the section says, or does not say, of `key` perhaps not what was
 * meant? An error was told then.
 */
bool section_doubts(const struct section *section, enum config_key key);

/* Errors that follow are about line `line` of `name`. */
struct config_place *config_files_at(struct config_files *files,
				     const char *name, unsigned int line);

#endif
