// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * verifier.c - asks the running kernel's verifier for every program of the
 * given BPF object files. Loads each program alone, attaches and keeps
 * nothing.
 *
 *	verifier [-n PROGRAM:FUNCTION]... FILE...
 *
 * One line for each program, separated by tabs: its name, "ok", the number
 * of instructions that the verifier processed, and the depth of the stack in
 * bytes, as in "64+0+16" with one number for each function that was verified
 * on its own. Where it is refused: its name, "refused", the error; the end of
 * the verifier's log goes to standard error. Exit status 1 if any was refused.
 *
 * -n says that PROGRAM needs FUNCTION of the kernel. Where that is missing,
 * the program is not tried: its name, "absent", the function.
 */
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the kernel's enum in include/linux/bpf_verifier.h. */
#define LOG_LEVEL_TRACE	     1
#define LOG_LEVEL_STATISTICS 4

#define LOG_SIZE	(16 << 20)
#define LOG_LINES_SHOWN 40

/* Enough for any verification, and a full-sized map takes a guest's memory. */
#define MAP_ENTRIES_MAX 4096

#define NEEDS_MAX 16

/* "PROGRAM:FUNCTION" as given, and whether the kernel lacks FUNCTION. */
static struct {
	const char *text;
	bool missing;
} needs[NEEDS_MAX];
static size_t n_needs;

static char log_buffer[LOG_SIZE];
static bool quiet;

static int print_libbpf(enum libbpf_print_level level, const char *format,
			va_list args)
{
	if (level != LIBBPF_WARN || quiet)
		return 0;
	return vfprintf(stderr, format, args);
}

static void shrink_maps(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		if (bpf_map__type(map) != BPF_MAP_TYPE_RINGBUF &&
		    bpf_map__max_entries(map) > MAP_ENTRIES_MAX)
			bpf_map__set_max_entries(map, MAP_ENTRIES_MAX);
	}
}

/* Loads program `name` of `file` and no other one; fills log_buffer. */
static int load(const char *file, const char *name, unsigned int log_level)
{
	struct bpf_program *program;
	struct bpf_object *object;
	int r;

	log_buffer[0] = '\0';
	object = bpf_object__open_file(file, NULL);
	if (!object)
		return -errno;

	bpf_object__for_each_program(program, object)
	{
		bool wanted = !strcmp(bpf_program__name(program), name);

		bpf_program__set_autoload(program, wanted);
		if (!wanted)
			continue;
		bpf_program__set_log_level(program, log_level);
		bpf_program__set_log_buf(program, log_buffer,
					 sizeof(log_buffer));
	}
	shrink_maps(object);
	r = bpf_object__load(object);
	bpf_object__close(object);
	return r;
}

static void print_log_end(const char *name)
{
	const char *start = log_buffer + strlen(log_buffer);
	int lines = 0;

	while (start > log_buffer) {
		if (start[-1] == '\n' && ++lines > LOG_LINES_SHOWN)
			break;
		start--;
	}
	fprintf(stderr, "--- %s: end of the verifier's log\n%s---\n", name,
		start);
}

static bool check(const char *file, const char *name)
{
	char stack[256] = "0";
	unsigned int processed = 0;
	const char *at;
	int r;

	quiet = true;
	r = load(file, name, LOG_LEVEL_STATISTICS);
	if (r) {
		printf("%s\trefused\t%s\n", name, strerror(-r));
		fflush(stdout);
		quiet = false;
		fputs(log_buffer, stderr);
		load(file, name, LOG_LEVEL_TRACE);
		print_log_end(name);
		return false;
	}
	at = strstr(log_buffer, "stack depth ");
	if (at)
		sscanf(at, "stack depth %255s", stack);
	at = strstr(log_buffer, "processed ");
	if (at)
		sscanf(at, "processed %u", &processed);
	printf("%s\tok\t%u\t%s\n", name, processed, stack);
	return true;
}

/* The function that `name` needs and the kernel lacks, or NULL. */
static const char *missing_function(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < n_needs; i++) {
		if (needs[i].missing && !strncmp(needs[i].text, name, len) &&
		    needs[i].text[len] == ':')
			return needs[i].text + len + 1;
	}
	return NULL;
}

static bool check_file(const char *file)
{
	struct bpf_program *program;
	struct bpf_object *object;
	bool ok = true;

	object = bpf_object__open_file(file, NULL);
	if (!object) {
		printf("%s\trefused\t%s\n", file, strerror(errno));
		return false;
	}
	bpf_object__for_each_program(program, object)
	{
		const char *name = bpf_program__name(program);
		const char *missing = missing_function(name);

		if (missing)
			printf("%s\tabsent\t%s\n", name, missing);
		else
			ok &= check(file, name);
	}
	bpf_object__close(object);
	return ok;
}

/* Fills in what of `needs` the running kernel lacks. 0 or -errno. */
static int look_up_needs(void)
{
	struct btf *btf = btf__load_vmlinux_btf();

	if (!btf)
		return -errno;
	for (size_t i = 0; i < n_needs; i++) {
		const char *colon = strchr(needs[i].text, ':');

		needs[i].missing =
			colon && btf__find_by_name_kind(btf, colon + 1,
							BTF_KIND_FUNC) < 0;
	}
	btf__free(btf);
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: verifier [-n PROGRAM:FUNCTION]... FILE...\n");
	return 2;
}

int main(int argc, char **argv)
{
	bool ok = true;
	int option, r;

	while ((option = getopt(argc, argv, "n:")) != -1) {
		if (option != 'n' || n_needs == NEEDS_MAX)
			return usage();
		needs[n_needs++].text = optarg;
	}
	if (optind == argc)
		return usage();
	libbpf_set_print(print_libbpf);
	r = look_up_needs();
	if (r < 0) {
		fprintf(stderr, "verifier: no BTF of the kernel: %s\n",
			strerror(-r));
		return 1;
	}
	for (int i = optind; i < argc; i++)
		ok &= check_file(argv[i]);
	return ok ? 0 : 1;
}
