/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.h - what realpeer.conf, its drop-ins and the environment say.
 *
 * A struct config is complete (every inherited value resolved) and immutable
 * once loaded. It is reference-counted: relayed connections keep the listener
 * that they came through alive across a reload.
 */
#ifndef REALPEER_CONFIG_H
#define REALPEER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "address.h"
#include "log.h"
#include "realpeer/abi.h"

/* For who is compiled with SYSCONFDIR, in the Makefile. */
#define CONFIG_DEFAULT_FILE REALPEER_SYSCONFDIR "/realpeer/realpeer.conf"
#define CONFIG_LISTEN_MAX   64	 /* addresses of one listener */
#define CONFIG_TRUSTED_MAX  4096 /* prefixes of one listener */

enum client_address {
	CLIENT_ADDRESS_NONE,
	CLIENT_ADDRESS_GETPEERNAME,
	CLIENT_ADDRESS_PROXY_V1,
	CLIENT_ADDRESS_PROXY_V2,
};

/* What `offload =` asks for; `auto` is the best the kernel offers. */
enum offload_wanted {
	OFFLOAD_WANTED_OFF = RP_OFFLOAD_OFF,
	OFFLOAD_WANTED_PEEK = RP_OFFLOAD_PEEK,
	OFFLOAD_WANTED_ACCEPT = RP_OFFLOAD_ACCEPT,
	OFFLOAD_WANTED_AUTO,
};

struct listener_config {
	char name[RP_NAME_LEN];
	char *file; /* where the section stands */
	unsigned int line;
	struct address *listen; /* array, owned */
	size_t n_listen;
	struct prefix *trusted; /* array, owned */
	size_t n_trusted;
	struct address handler; /* relay; inline only has a port */
	uint16_t handler_port;	/* inline, host order; 0: the same */
	enum rp_delivery delivery;
	enum rp_mode mode;
	enum rp_untrusted untrusted;
	enum offload_wanted offload;
	enum client_address client_address;
	bool handler_here; /* a socket of this host, when it was loaded */
	uint32_t header_timeout_ms;
	uint32_t header_max; /* bytes */
	bool special_source; /* believe loopback, multicast, ... */
	enum rp_attached attached;
	uint16_t tlvs_forwarded; /* proxy-v2: enum rp_tlv_bit */
};

struct config {
	unsigned int references;	   /* atomic */
	struct listener_config *listeners; /* array, owned */
	size_t n_listeners;
	struct listener_config global; /* inherited values; used by attach */
	enum log_level log_level;
	uint32_t drain_timeout_ms;
	unsigned int threads;	  /* 0: one for each usable CPU */
	uint32_t connections_max; /* 0: as many as suit the host's memory */
};

/*
 * Loads `path`, the *.conf files of the conf.d directory beside it in order
 * of name, and the environment. Every error is written to `errors` as
 * "FILE:LINE: text" (all of them, not just the first). Returns 0 with one
 * reference for the caller in *ret_config, or -EINVAL (errors were written),
 * -ENOMEM; the file missing or unreadable is an error with line 0.
 */
int config_load(const char *path, FILE *errors, struct config **ret_config);

struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* NULL is fine */

const char *mode_name(enum rp_mode mode);
const char *delivery_name(enum rp_delivery delivery);
const char *offload_name(enum rp_offload offload);
const char *client_address_name(enum client_address client_address);

#endif
