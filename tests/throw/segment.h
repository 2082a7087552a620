/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.h - one TCP segment as it is to be thrown: every field of it, right
 * or wrong, and the frames that it becomes. Whatever else is wrong with it, a
 * segment that TCP must take carries the bytes of its stream that belong to
 * its sequence number; so what a server may see is known, however segments
 * overlap and come again.
 */
#ifndef REALPEER_TESTS_SEGMENT_H
#define REALPEER_TESTS_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream.h"

#define SEGMENT_MTU	    1500
#define SEGMENT_EXTRA_MAX   64
#define SEGMENT_OPTIONS_MAX 40
#define SEGMENT_PAYLOAD_MAX 40000 /* with GSO */

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32 };

/* A packet socket with PACKET_VNET_HDR, and the Ethernet addresses. */
struct wire {
	int fd;
	uint8_t destination[6], source[6];
};

enum offload {
	OFFLOAD_NONE,
	OFFLOAD_CHECKSUM, /* left to a device that is not there */
	OFFLOAD_GSO,
};

struct segment {
	const struct stream *stream;
	bool v6;
	uint8_t source[16], destination[16]; /* IPv4 as v4-mapped */
	uint16_t source_port, destination_port;
	uint32_t seq, ack;
	uint32_t first; /* sequence number of the stream's first byte */
	uint8_t flags;
	uint16_t window, urgent;
	uint8_t options[SEGMENT_OPTIONS_MAX];
	size_t n_options; /* a multiple of 4 */
	int doff;	  /* said instead of the real one; -1: that */
	size_t len;	  /* of the payload */
	const char *lie;  /* other bytes; only if TCP must not take them */

	uint8_t extra[SEGMENT_EXTRA_MAX]; /* IPv4 options, IPv6 extensions */
	size_t n_extra;
	uint8_t next; /* protocol, or type of the first extension */
	uint8_t ttl, tos;
	uint16_t id, fragment; /* IPv4: flags and offset */
	uint8_t version;
	int ihl;	   /* said instead of the real one; -1: that */
	int more;	   /* bytes that the IP length says too much */
	uint16_t ip_check; /* added to a right one, as is: */
	uint16_t check;
	bool damaged; /* one byte, behind the checksum's back */

	uint16_t type; /* of the frame */
	bool other_station, vlan;
	size_t cut, trailing; /* bytes that the frame lacks, has too many */
	unsigned int pieces;  /* IP fragments; 0: none */
	bool backwards;	      /* the last one first */
	enum offload offload;
};

/* Sends it; returns the number of frames. */
unsigned int segment_send(const struct segment *segment,
			  const struct wire *wire);

#endif
