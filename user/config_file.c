/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_file.c - see config_file.h. Owns which files there are, and which
 * sections and keys may stand where; must not look at values.
 */
#include "config_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ini_file.h"

#define LISTENER_PREFIX "listener"

static void section_clear(struct section *section)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		struct setting *setting = section->settings[i].overridden;

		free(section->settings[i].text);
		while (setting) {
			struct setting *next = setting->overridden;

			free(setting->text);
			free(setting);
			setting = next;
		}
	}
}

void config_files_clear(struct config_files *files)
{
	section_clear(&files->global);
	for (size_t i = 0; i < files->n_listeners; i++)
		section_clear(&files->listeners[i]);
	free(files->listeners);
	for (size_t i = 0; i < files->n_names; i++)
		free(files->names[i]);
	free(files->names);
}

bool section_doubts(const struct section *section, enum config_key key)
{
	return section->doubted >> key & 1 ||
	       (section->unreadable && !section->settings[key].text);
}

struct config_place *config_files_at(struct config_files *files,
				     const char *name, unsigned int line)
{
	files->place.file = name;
	files->place.line = line;
	return &files->place;
}

static bool name_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz"
				  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789_.-");

	return len > 0 && len < RP_NAME_LEN && !name[len];
}

static void begin_listener(struct config_files *files, const char *name,
			   unsigned int line)
{
	struct section *grown, *section;
	char escaped[80];

	if (!name_valid(name)) {
		config_error(&files->place,
			     "listener name '%s' is not 1 to %d of letters, "
			     "digits, '_', '.' and '-'",
			     log_escape(name, strlen(name), escaped,
					sizeof(escaped)),
			     RP_NAME_LEN - 1);
		return;
	}
	for (size_t i = 0; i < files->n_listeners; i++) {
		section = &files->listeners[i];
		if (strcmp(section->name, name) == 0) {
			config_error(&files->place,
				     "listener '%s' stands already at %s:%u",
				     name, section->file, section->line);
			return;
		}
	}
	if (files->n_listeners == RP_LISTENERS_MAX) {
		config_error(&files->place, "more than %d listeners",
			     RP_LISTENERS_MAX);
		return;
	}
	grown = reallocarray(files->listeners, files->n_listeners + 1,
			     sizeof(*grown));
	if (!grown) {
		files->no_memory = true;
		return;
	}
	files->listeners = grown;
	section = &grown[files->n_listeners++];
	*section = (struct section){.file = files->place.file, .line = line};
	memcpy(section->name, name, strlen(name));
	files->current = section;
}

static void on_section(const char *name, unsigned int line, void *arg)
{
	struct config_files *files = arg;
	size_t word = strlen(LISTENER_PREFIX), first;
	char escaped[80];

	files->place.line = line;
	files->current = NULL;
	files->key = KEY_NONE;
	files->in_section = true;
	if (!name)
		return;
	if (strcmp(name, "global") == 0) {
		files->current = &files->global;
		if (!files->global.file) {
			files->global.file = files->place.file;
			files->global.line = line;
		}
		return;
	}
	first = strcspn(name, " \t");
	if (first == word && strncmp(name, LISTENER_PREFIX, word) == 0) {
		begin_listener(files, name + word + strspn(name + word, " \t"),
			       line);
		return;
	}
	log_escape(name, strlen(name), escaped, sizeof(escaped));
	if (!name[first] && config_close(name, "global", 2)) {
		config_error(&files->place,
			     "unknown section [%s]; did you mean [global]?",
			     escaped);
	} else {
		config_error(&files->place,
			     "unknown section [%s]; there are [global] and "
			     "[listener NAME]",
			     escaped);
	}
}

static void doubt(struct section *section, enum config_key key)
{
	section->doubted |= 1u << key;
}

static void unknown_key(struct config_files *files, const char *key)
{
	bool listener = files->current != &files->global;
	const char *guess = config_key_guess(key, listener);
	char escaped[80];

	log_escape(key, strlen(key), escaped, sizeof(escaped));
	if (!guess) {
		config_error(&files->place, "unknown key '%s'", escaped);
		return;
	}
	config_error(&files->place, "unknown key '%s'; did you mean '%s'?",
		     escaped, guess);
	doubt(files->current, config_key_find(guess));
}

/* The key's number if it may stand in the current section, else told. */
static enum config_key place_key(struct config_files *files, const char *name)
{
	enum config_key key = config_key_find(name);

	if (key == KEY_NONE) {
		unknown_key(files, name);
	} else if (files->current == &files->global &&
		   !config_key_in_global(key)) {
		config_error(&files->place,
			     "'%s' belongs into a [listener NAME] section",
			     name);
		key = KEY_NONE;
	} else if (files->current != &files->global &&
		   !config_key_in_listener(key)) {
		config_error(&files->place, "'%s' belongs into [global]", name);
		key = KEY_NONE;
	}
	return key;
}

/* The value goes on: lines of a list are joined by commas. */
static void continue_setting(struct config_files *files, const char *value)
{
	struct setting *setting;
	char *joined;
	size_t have;

	if (!files->current || files->key == KEY_NONE)
		return;
	setting = &files->current->settings[files->key];
	have = strlen(setting->text);
	joined = realloc(setting->text, have + strlen(value) + 2);
	if (!joined) {
		files->no_memory = true;
		return;
	}
	if (have > 0 && joined[have - 1] != ',')
		joined[have++] = ',';
	strcpy(joined + have, value);
	setting->text = joined;
}

static int set(struct setting *setting, const char *value, const char *file,
	       unsigned int line)
{
	char *text = strdup(value);
	struct setting *overridden = NULL;

	if (text && setting->text) {
		overridden = malloc(sizeof(*overridden));
		if (overridden)
			*overridden = *setting;
	}
	if (!text || (setting->text && !overridden)) {
		free(text);
		return -ENOMEM;
	}
	*setting = (struct setting){text, file, line, overridden};
	return 0;
}

static void on_setting(const char *name, const char *value, unsigned int line,
		       bool more, void *arg)
{
	struct config_files *files = arg;
	struct setting *setting;
	char escaped[80];

	if (more) {
		continue_setting(files, value);
		return;
	}
	files->place.line = line;
	files->key = KEY_NONE;
	if (!files->in_section)
		config_error(&files->place,
			     "'%s' stands before the first section",
			     log_escape(name, strlen(name), escaped,
					sizeof(escaped)));
	if (!files->current)
		return;
	files->key = place_key(files, name);
	if (files->key == KEY_NONE)
		return;
	setting = &files->current->settings[files->key];
	/* A drop-in overrides [global]; within one file it is a mistake. */
	if (setting->text && setting->file == files->place.file) {
		config_error(&files->place, "'%s' stands already at %s:%u",
			     name, setting->file, setting->line);
		doubt(files->current, files->key);
		files->key = KEY_NONE;
		return;
	}
	if (set(setting, value, files->place.file, line) < 0) {
		files->no_memory = true;
		files->key = KEY_NONE;
	}
}

static void on_error(unsigned int line, const char *text, void *arg)
{
	struct config_files *files = arg;

	files->place.line = line;
	config_error(&files->place, "%s", text);
	if (files->current)
		files->current->unreadable = true;
}

/* Reads one file; takes `path`, which must come from malloc(). */
static void read_file(struct config_files *files, char *path)
{
	static const struct ini_events events = {
		.section = on_section,
		.setting = on_setting,
		.error = on_error,
	};
	char **grown =
		reallocarray(files->names, files->n_names + 1, sizeof(*grown));
	int r;

	if (!grown || !path) {
		files->names = grown ? grown : files->names;
		files->no_memory = true;
		free(path);
		return;
	}
	files->names = grown;
	grown[files->n_names++] = path;
	config_files_at(files, path, 0);
	files->current = NULL;
	files->key = KEY_NONE;
	files->in_section = false;
	r = ini_file_read(path, &events, files);
	if (r == -ENOMEM)
		files->no_memory = true;
	else if (r < 0)
		config_error(config_files_at(files, path, 0),
			     "cannot be read: %s", strerror(-r));
}

static int is_conf(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 &&
	       strcmp(entry->d_name + len - 5, ".conf") == 0;
}

/* By bytes, so that the order is the same in every locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_drop_ins(struct config_files *files, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct dirent **entries;
	char *directory, *file;
	int n;

	if (asprintf(&directory, "%.*sconf.d",
		     slash ? (int)(slash + 1 - path) : 0, path) < 0) {
		files->no_memory = true;
		return;
	}
	n = scandir(directory, &entries, is_conf, by_name);
	if (n < 0 && errno != ENOENT)
		config_error(config_files_at(files, directory, 0),
			     "cannot be read: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (asprintf(&file, "%s/%s", directory, entries[i]->d_name) < 0)
			file = NULL;
		read_file(files, file);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	free(directory);
}

void config_files_read(struct config_files *files, const char *path)
{
	read_file(files, strdup(path));
	if (!files->no_memory)
		read_drop_ins(files, path);
}
