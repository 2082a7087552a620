/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * options.c - see options.h.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

#define REQUEST_MAX 65536

static const char usage[] =
	"Usage: load MODE [OPTION]... ADDRESS:PORT\n"
	"Plays a load balancer that speaks the PROXY protocol, in front of a\n"
	"`backend` (which see) or of what stands before one. The result goes to\n"
	"standard output as one line of JSON. Exit status 0: all went well;\n"
	"1: connections failed, or the server saw the wrong peer; 2: usage.\n"
	"\n"
	"  connect   connects, asks the server whom it sees, closes: -c times,\n"
	"            -f at a time. -f 1 tells the latency of one\n"
	"  request   -r requests of -s bytes over -c connections, one at a time\n"
	"            on each, sent back by the server\n"
	"  up, down  -B bytes over each of -c connections\n"
	"  idle      opens -c connections, writes {\"ready\":N}, holds them until\n"
	"            standard input ends, and asks each whether it still works\n"
	"  refuse    -c connections that deserve no answer, -f at a time\n"
	"\n"
	"  -c, --connections=N   10000 by default; request 16; up and down 1\n"
	"  -f, --in-flight=N     connections at a time, 64 by default\n"
	"  -r, --requests=N      in total, 100000 by default\n"
	"  -s, --size=BYTES      of a request, 64 by default\n"
	"  -B, --bytes=N         1073741824 by default\n"
	"      --rate=N          start at most N connections in a second\n"
	"  -H, --header=KIND     none, v1, v2 (default), or v2-crc32c, which has\n"
	"                        the TLVs of AWS NLB: a CRC32C and padding\n"
	"      --clients=PREFIX  whom the headers name, 198.18.0.0/15 by default\n"
	"      --source=PREFIX   bind to these addresses, one after the other\n"
	"      --pieces=N        send the header in N pieces\n"
	"      --pause=MS        wait between them\n"
	"      --apart           send the payload on its own, after the header\n"
	"      --check           the server must see the client that the header\n"
	"                        names (connect, idle)\n"
	"      --rubbish=KIND    refuse: header (a good one, for use with\n"
	"                        --source), broken, payload (no header), silent\n"
	"      --timeout=S       give up when nothing happens, 10 by default\n"
	"  -h, --help            this text\n";

enum {
	OPTION_RATE = 256,
	OPTION_CLIENTS,
	OPTION_SOURCE,
	OPTION_PIECES,
	OPTION_PAUSE,
	OPTION_APART,
	OPTION_CHECK,
	OPTION_RUBBISH,
	OPTION_TIMEOUT,
};

static const struct option long_options[] = {
	{"connections", required_argument, NULL, 'c'},
	{"in-flight", required_argument, NULL, 'f'},
	{"requests", required_argument, NULL, 'r'},
	{"size", required_argument, NULL, 's'},
	{"bytes", required_argument, NULL, 'B'},
	{"rate", required_argument, NULL, OPTION_RATE},
	{"header", required_argument, NULL, 'H'},
	{"clients", required_argument, NULL, OPTION_CLIENTS},
	{"source", required_argument, NULL, OPTION_SOURCE},
	{"pieces", required_argument, NULL, OPTION_PIECES},
	{"pause", required_argument, NULL, OPTION_PAUSE},
	{"apart", no_argument, NULL, OPTION_APART},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"rubbish", required_argument, NULL, OPTION_RUBBISH},
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char *const modes[] = {
	[MODE_CONNECT] = "connect", [MODE_REQUEST] = "request",
	[MODE_UP] = "up",	    [MODE_DOWN] = "down",
	[MODE_IDLE] = "idle",	    [MODE_REFUSE] = "refuse",
};

static const char *const headers[] = {
	[WIRE_NONE] = "none",
	[WIRE_V1] = "v1",
	[WIRE_V2] = "v2",
	[WIRE_V2_CRC32C] = "v2-crc32c",
};

static const char *const rubbish[] = {
	[RUBBISH_HEADER] = "header",
	[RUBBISH_BROKEN] = "broken",
	[RUBBISH_PAYLOAD] = "payload",
	[RUBBISH_SILENT] = "silent",
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static __attribute__((noreturn)) void fail(const char *what, const char *text)
{
	fprintf(stderr, "load: %s: %s\nTry load --help.\n", what, text);
	exit(2);
}

static int find(const char *what, const char *text, const char *const *names,
		size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(names[i], text) == 0)
			return i;
	}
	fail(what, text);
}

static uint64_t number(const char *what, const char *text, uint64_t max)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n == 0 || n > max)
		fail(what, text);
	return n;
}

static void take_pool(const char *what, const char *text, struct pool *ret)
{
	if (pool_parse(text, ret))
		fail(what, text);
}

static void take_other(int option, const char *text, struct options *o)
{
	switch (option) {
	case OPTION_RATE:
		o->rate_ns = NS_PER_S / number("--rate", text, NS_PER_S);
		break;
	case OPTION_CLIENTS:
		take_pool("--clients", text, &o->clients);
		break;
	case OPTION_SOURCE:
		take_pool("--source", text, &o->sources);
		break;
	case OPTION_PIECES:
		o->pieces = number("--pieces", text, WIRE_HEADER_MAX);
		break;
	case OPTION_PAUSE:
		o->pause_ns = number("--pause", text, 60000) * NS_PER_MS;
		break;
	case OPTION_APART:
		o->apart = true;
		break;
	case OPTION_CHECK:
		o->check = true;
		break;
	case OPTION_RUBBISH:
		o->rubbish = find("--rubbish", text, rubbish, COUNT(rubbish));
		break;
	case OPTION_TIMEOUT:
		o->timeout_ns = number("--timeout", text, 3600) * NS_PER_S;
		break;
	}
}

static void take(int option, const char *text, struct options *o)
{
	switch (option) {
	case 'c':
		o->connections = number("-c", text, 1u << 30);
		break;
	case 'f':
		o->in_flight = number("-f", text, 1 << 17);
		break;
	case 'r':
		o->requests = number("-r", text, 1u << 31);
		break;
	case 's':
		o->size = number("-s", text, REQUEST_MAX);
		break;
	case 'B':
		o->bytes = number("-B", text, 1ull << 50);
		break;
	case 'H':
		o->header = find("-H", text, headers, COUNT(headers));
		break;
	case 'h':
		fputs(usage, stdout);
		exit(EXIT_SUCCESS);
	case '?':
		fputs("Try load --help.\n", stderr);
		exit(2);
	default:
		take_other(option, text, o);
	}
}

/* What depends on the mode. */
static void complete(struct options *o)
{
	bool held = o->mode == MODE_REQUEST || o->mode == MODE_UP ||
		    o->mode == MODE_DOWN;

	if (o->connections == 0)
		o->connections = o->mode == MODE_REQUEST ? 16
				 : held			 ? 1
							 : 10000;
	if (held)
		o->in_flight = o->connections;
	if (o->mode == MODE_REFUSE && o->rubbish == RUBBISH_BROKEN)
		o->header = WIRE_BROKEN;
	else if (o->mode == MODE_REFUSE && o->rubbish != RUBBISH_HEADER)
		o->header = WIRE_NONE;
	if (o->header != WIRE_NONE &&
	    o->clients.first.sa.sa_family != o->target.sa.sa_family)
		fail("--clients", "not of the family of ADDRESS");
	if (o->sources.count &&
	    o->sources.first.sa.sa_family != o->target.sa.sa_family)
		fail("--source", "not of the family of ADDRESS");
}

void options_parse(int argc, char **argv, struct options *ret)
{
	struct options o = {
		.header = WIRE_V2,
		.rubbish = RUBBISH_PAYLOAD,
		.in_flight = 64,
		.requests = 100000,
		.bytes = 1 << 30,
		.size = 64,
		.pieces = 1,
		.timeout_ns = 10 * NS_PER_S,
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:f:r:s:B:H:h", long_options,
				     NULL)) != -1)
		take(option, optarg, &o);
	if (argc - optind != 2)
		fail("MODE and ADDRESS:PORT", "expected");
	o.mode = find("MODE", argv[optind], modes, COUNT(modes));
	o.mode_name = modes[o.mode];
	if (endpoint_parse(argv[optind + 1], &o.target))
		fail("ADDRESS:PORT", argv[optind + 1]);
	if (o.clients.count == 0)
		pool_parse(o.target.sa.sa_family == AF_INET6 ? "2001:db8::/64"
							     : "198.18.0.0/15",
			   &o.clients);
	complete(&o);
	*ret = o;
}
