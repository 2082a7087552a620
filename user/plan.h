/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * plan.h - what a configuration comes to on this host: how much of a
 * listener's work the kernel does and why not more, and what a reload
 * changes. Decides; must not do anything.
 */
#ifndef REALPEER_PLAN_H
#define REALPEER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "datapath.h"

#define PLAN_TEXT_MAX 512

struct plan {
	enum rp_offload offload;
	char why[PLAN_TEXT_MAX];     /* why not better; "" if it is the best */
	char refused[PLAN_TEXT_MAX]; /* what it demands in vain; "" if served */
	const char *warning; /* what it does not do well; NULL if none */
};

void plan_listener(const struct datapath_features *features,
		   const struct listener_config *listener, struct plan *ret);

/*
 * Numbers for the listeners of `config` where no map keeps them: those of
 * `old`, which may be NULL, stay with their names. A new name gets one that is
 * not `taken`, where those of `old` are entered.
 */
void plan_numbers(const struct config *old, const uint32_t *old_numbers,
		  const struct config *config, bool taken[RP_LISTENERS_MAX],
		  uint32_t *ret_numbers);

/* The listener of that name, NULL if there is none. */
const struct listener_config *plan_find(const struct config *config,
					const char *name);

/* Names of the settings that differ, with commas; "" if none does. */
const char *plan_changes(const struct listener_config *old,
			 const struct listener_config *new,
			 char out[PLAN_TEXT_MAX]);

/* Likewise for what is not any listener's. */
const char *plan_global_changes(const struct config *old,
				const struct config *new,
				char out[PLAN_TEXT_MAX]);

#endif
