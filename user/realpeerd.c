/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * realpeerd.c - the daemon's main thread: starts and stops the parts, hands
 * a new configuration to all of them or to none, and then waits for signals,
 * the control socket and news of interfaces. It touches no connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "activation.h"
#include "daemon.h"
#include "log.h"
#include "store.h"
#include "takeover.h"

/* How long systemd may take to read what it is to keep. */
#define STORE_TIMEOUT_MS 5000

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * What is opened next gets the lowest free number. If that were one of these,
 * log lines would go into a socket.
 */
static int open_standard_descriptors(void)
{
	int fd;

	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++) {
		if (fcntl(i, F_GETFD) >= 0)
			continue;
		fd = open("/dev/null", O_RDWR);
		if (fd != i)
			return fd < 0 ? -errno : -EBADF;
	}
	return 0;
}

/* realpeerd -n: what would be, with nothing left behind. */
static int check(const char *config_path)
{
	struct datapath_features features;
	struct setup setup;
	int r = setup_load(config_path, &(struct attached){0}, stderr, &setup);

	if (r < 0)
		return EXIT_FAILURE;
	datapath_probe(&features);
	r = setup_plan(&setup, &features, stderr);
	setup_print(&setup, stdout);
	setup_clear(&setup);
	if (fflush(stdout) != 0)
		r = -errno;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Says so when the kernel part is missing and somebody counted on it. */
static void warn_without_bpf(const struct daemon *daemon,
			     const struct config *config)
{
	char why[2 * sizeof(daemon->features.why)];

	if (daemon->features.offload > RP_OFFLOAD_OFF)
		return;
	for (size_t i = 0; i < config->n_listeners; i++) {
		if (config->listeners[i].offload != OFFLOAD_WANTED_AUTO)
			continue;
		log_warning("msg=\"the daemon does everything itself: no BPF "
			    "program can help\" why=\"%s\"",
			    log_escape(daemon->features.why,
				       strlen(daemon->features.why), why,
				       sizeof(why)));
		return;
	}
}

/* Did another daemon leave pins, by crashing or because it was told to? */
static bool pins_exist(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/settings", datapath_directory());
	return access(path, F_OK) == 0;
}

/* Ports that were attached to the pins that were taken over stay so. */
static int restore_attached(struct daemon *daemon, FILE *errors)
{
	int r = datapath_restore_attached(daemon->datapath, &daemon->attached);

	if (r < 0 || !daemon->attached.n)
		return r;
	r = daemon_load(daemon, errors);
	if (r < 0)
		return r;
	return setup_plan(&daemon->setup, &daemon->features, errors);
}

/*
 * Plans, then opens what the plan rests on. Another daemon's pins, or those
 * of another version, are no reason to do less; that none can be made is.
 */
static int open_datapath(struct daemon *daemon, FILE *errors)
{
	int r;

	datapath_probe(&daemon->features);
	r = setup_plan(&daemon->setup, &daemon->features, errors);
	if (r < 0 || !daemon->features.bpf)
		return r;
	daemon->keep_pins = pins_exist();
	daemon->features.connections_max =
		daemon->setup.config->connections_max;
	r = datapath_open(&daemon->features, &daemon->datapath);
	if (r == 0)
		return restore_attached(daemon, errors);
	if (r == -EPROTO || r == -EBUSY)
		return r;
	daemon->features = (struct datapath_features){0};
	snprintf(daemon->features.why, sizeof(daemon->features.why),
		 "the BPF programs cannot be set up: %s, in %s", strerror(-r),
		 datapath_directory());
	return setup_plan(&daemon->setup, &daemon->features, errors);
}

static int start_server(struct daemon *daemon)
{
	struct activation passed;
	int r;

	daemon_number(daemon, &daemon->setup);
	r = datapath_configure(daemon->datapath, daemon->setup.config,
			       daemon->setup.numbers);
	if (r < 0) {
		log_error("msg=\"the maps cannot be filled\" error=\"%s\"",
			  strerror(-r));
		return r;
	}
	r = activation_take(&passed);
	if (r < 0) {
		log_error("msg=\"cannot take the sockets of systemd\" "
			  "error=\"%s\"",
			  strerror(-r));
		return r;
	}
	r = server_start(daemon->setup.config, daemon->setup.numbers,
			 daemon->datapath, passed.sockets, passed.n,
			 &daemon->server);
	if (r < 0) {
		/* The store still has all of them, for the next attempt. */
		log_error("msg=\"cannot listen\" error=\"%s\"", strerror(-r));
		free(passed.sockets);
		return r;
	}
	if (passed.connections >= 0) {
		server_adopt(daemon->server, passed.connections);
		store_forget(STORE_CONNECTIONS, 0);
	}
	activation_finish(&passed);
	server_store(daemon->server);
	return 0;
}

static int block_signals(struct daemon *daemon)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	/* Before any thread starts: all inherit the mask. */
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 ||
	    signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    signal(SIGUSR2, SIG_IGN) == SIG_ERR)
		return -EINVAL;
	daemon->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return daemon->signals < 0 ? -errno : 0;
}

static void start_watchdog(struct daemon *daemon)
{
	uint64_t limit_us;

	if (sd_watchdog_enabled(0, &limit_us) > 0)
		daemon->watchdog_ms = limit_us / 1000 / 2;
	daemon->watchdog_next = now_ms();
}

/* Each relayed connection takes two: as many as we may have. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("msg=\"cannot raise the limit of descriptors\" "
			    "error=\"%s\"",
			    strerror(errno));
}

static bool is_told_to_stop(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

/* Everything that can fail; what was started is stopped by finish(). */
static int start(struct daemon *daemon)
{
	struct timespec now;
	/* First: one that comes now waits until we run. */
	int r = block_signals(daemon);

	if (r == 0)
		r = daemon_run_step(daemon, daemon_load, NULL);
	if (r < 0)
		return r;
	daemon_apply_log_level(daemon);
	raise_descriptor_limit();
	r = daemon_open_control(daemon);
	if (r == 0)
		r = daemon_run_step(daemon, open_datapath, NULL);
	if (r < 0)
		return r;
	warn_without_bpf(daemon, daemon->setup.config);
	r = start_server(daemon);
	if (r < 0)
		return r;
	clock_gettime(CLOCK_BOOTTIME, &now);
	daemon->started = (uint64_t)now.tv_sec;
	daemon_log_listeners(daemon);
	log_notice("msg=started version=" REALPEER_VERSION " listeners=%zu",
		   daemon->setup.config->n_listeners);
	start_watchdog(daemon);
	daemon_notify_ready(daemon);
	/*
	 * Whom systemd does not know to be ready it stops without ExecStop,
	 * which would have told if the pins are wanted: they stay as they were.
	 */
	store_settle(STORE_TIMEOUT_MS);
	if (!is_told_to_stop())
		daemon->keep_pins = false; /* from here on they are ours */
	return 0;
}

/* The next daemon goes on with everything, if systemd can keep it till then. */
static bool hand_on(struct daemon *daemon)
{
	struct takeover takeover;
	uint32_t n;
	int parcel;

	if (!daemon->keep_pins || !store_available() ||
	    takeover_begin(&takeover) < 0)
		return false;
	server_leave(daemon->server, &takeover);
	n = takeover_end(&takeover, &parcel);
	if (n && !store_keep(STORE_CONNECTIONS, &parcel, 1))
		log_error("msg=\"relayed connections are reset, systemd cannot "
			  "keep them\" number=%u",
			  n);
	else
		log_notice("msg=\"relayed connections wait for the next "
			   "daemon\" number=%u",
			   n);
	if (n)
		close(parcel);
	/* Who has ended cannot be asked which unit it belonged to. */
	store_settle(STORE_TIMEOUT_MS);
	return true;
}

static void *drain_server(void *arg)
{
	struct daemon *daemon = arg;

	if (!hand_on(daemon))
		server_stop(daemon->server,
			    daemon->setup.config->drain_timeout_ms);
	eventfd_write(daemon->drained, 1);
	return NULL;
}

/*
 * Draining waits; a thread does it, so that a second signal and the watchdog
 * are still seen to. The server is that thread's from here on.
 */
static void stop(struct daemon *daemon)
{
	if (daemon->stopping) {
		if (!daemon->keep_pins)
			datapath_unpin(daemon->datapath);
		log_notice("msg=\"stopped at once, connections are cut\"");
		sd_notify(0, "STOPPING=1");
		_exit(EXIT_SUCCESS);
	}
	daemon->stopping = true;
	log_notice("msg=stopping drain_timeout_ms=%u",
		   daemon->setup.config->drain_timeout_ms);
	sd_notify(0, "STOPPING=1\nSTATUS=waiting for connections to end");
	control_close(daemon->control);
	daemon->control = NULL;
	/* What the kernel cannot decide is retransmitted to the next daemon. */
	if (daemon->keep_pins)
		datapath_set_handover(daemon->datapath, NULL, 0);
	if (pthread_create(&daemon->drain, NULL, drain_server, daemon) != 0) {
		log_error("msg=\"no thread to wait for connections\"");
		server_stop(daemon->server, 0);
		daemon->server = NULL;
	}
}

static void handle_signal(struct daemon *daemon, uint32_t number)
{
	char *text = NULL;

	switch (number) {
	case SIGHUP:
		if (!daemon->stopping)
			daemon_reload(daemon, &text);
		free(text);
		break;
	case SIGUSR1:
		log_notice("msg=\"the next daemon takes over what is "
			   "pinned\"");
		daemon->keep_pins = true;
		break;
	default:
		stop(daemon);
		break;
	}
}

static void handle_signals(struct daemon *daemon)
{
	struct signalfd_siginfo info;

	while (read(daemon->signals, &info, sizeof(info)) == sizeof(info))
		handle_signal(daemon, info.ssi_signo);
}

/* A thread that hangs must not be hidden by this one, which does not. */
static void ping_watchdog(struct daemon *daemon)
{
	if (daemon->watchdog_ms == 0 || now_ms() < daemon->watchdog_next)
		return;
	daemon->watchdog_next = now_ms() + daemon->watchdog_ms;
	if (daemon->stopping ||
	    server_stalled_ms(daemon->server) < daemon->watchdog_ms)
		sd_notify(0, "WATCHDOG=1");
}

static void keep_up(struct daemon *daemon)
{
	uint32_t wait;

	if (now_ms() < daemon->upkeep_next)
		return;
	setup_look(&daemon->setup);
	wait = datapath_upkeep(daemon->datapath);
	daemon->upkeep_next = wait == UINT32_MAX ? UINT64_MAX : now_ms() + wait;
}

/* The sooner of two timeouts, -1 for none, and of a point in time. */
static int sooner(int timeout, uint64_t at)
{
	uint64_t now = now_ms();
	int wait = at > now ? (int)(at - now) : 0;

	if (at == UINT64_MAX)
		return timeout;
	return timeout < 0 || wait < timeout ? wait : timeout;
}

static int next_timeout(const struct daemon *daemon)
{
	int timeout =
		daemon->control ? control_timeout_ms(daemon->control) : -1;

	if (daemon->watchdog_ms)
		timeout = sooner(timeout, daemon->watchdog_next);
	return sooner(timeout, daemon->upkeep_next);
}

static void run(struct daemon *daemon)
{
	/* poll() skips what is -1. */
	struct pollfd fds[] = {
		{.fd = daemon->signals, .events = POLLIN},
		{.fd = datapath_event_fd(daemon->datapath), .events = POLLIN},
		{.fd = daemon->drained, .events = POLLIN},
		{.events = POLLIN},
	};

	while (daemon->server) {
		fds[3].fd = daemon->control ? control_fd(daemon->control) : -1;
		if (poll(fds, 4, next_timeout(daemon)) < 0)
			continue;
		ping_watchdog(daemon);
		keep_up(daemon);
		if (fds[0].revents)
			handle_signals(daemon);
		if (fds[1].revents)
			datapath_handle_event(daemon->datapath);
		if (daemon->control)
			control_dispatch(daemon->control);
		if (fds[2].revents) {
			pthread_join(daemon->drain, NULL);
			daemon->server = NULL;
		}
	}
}

static void finish(struct daemon *daemon)
{
	control_close(daemon->control);
	server_stop(daemon->server, 0);
	datapath_close(daemon->datapath, !daemon->keep_pins);
	setup_clear(&daemon->setup);
	attached_clear(&daemon->attached);
	if (daemon->signals >= 0)
		close(daemon->signals);
	if (daemon->drained >= 0)
		close(daemon->drained);
}

int main(int argc, char **argv)
{
	struct daemon daemon = {
		.signals = -1,
		.drained = -1,
	};
	int r;

	if (open_standard_descriptors() < 0)
		return EXIT_FAILURE;
	if (options_parse(argc, argv, &daemon.options) < 0) {
		fputs(options_usage(), stderr);
		return 2;
	}
	switch (daemon.options.action) {
	case OPTIONS_RUN:
		break;
	case OPTIONS_CHECK:
		return check(daemon.options.config_path);
	case OPTIONS_HELP:
		fputs(options_usage(), stdout);
		return EXIT_SUCCESS;
	case OPTIONS_VERSION:
		puts("realpeerd " REALPEER_VERSION);
		return EXIT_SUCCESS;
	}
	daemon.drained = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = daemon.drained < 0 ? -errno : start(&daemon);
	if (r == 0)
		run(&daemon);
	finish(&daemon);
	if (r == 0)
		log_notice("msg=stopped");
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
