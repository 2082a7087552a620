/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - the only contract between the BPF programs and user space.
 *
 * Every structure here is a key or a value of a pinned map, so it outlives
 * the process that wrote it. Fixed-width types and explicit padding only; a
 * change of any layout or meaning raises RP_ABI_VERSION, which is checked
 * before existing pins are reused.
 *
 * Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. Ports are
 * in host order, so that `bpftool map dump` prints numbers a person knows.
 */
#ifndef REALPEER_ABI_H
#define REALPEER_ABI_H

#include <linux/types.h>

#define RP_ABI_VERSION 5

/* Holds both compilers to a size, and to where the last member with data is. */
#define RP_LAYOUT(type, size, member, offset)                             \
	_Static_assert(sizeof(struct type) == (size) &&                   \
			       __builtin_offsetof(struct type, member) == \
				       (offset),                          \
		       "ABI")

#define RP_NAME_LEN	     24 /* listener name, NUL included */
#define RP_LISTENERS_MAX     4096
/*
 * Entries of `connections`, where connections_max does not say: one for so much
 * of the host's memory, which takes a four-hundredth of it.
 */
#define RP_CONNECTION_SHARE  65536
#define RP_CONNECTIONS_LEAST (1 << 14)
#define RP_CONNECTIONS_MOST  (1 << 20)
#define RP_TLVS_MAX	     (1 << 18)
#define RP_TRUSTED_MAX	     65536

/* Longest header that the kernel decides on; longer ones are the daemon's. */
#define RP_KERNEL_HEADER_MAX 2048

enum rp_mode {
	RP_MODE_DISABLED = 0,
	RP_MODE_ENABLED = 1, /* header optional */
	RP_MODE_REQUIRED = 2,
};

enum rp_delivery {
	RP_DELIVERY_INLINE = 0,
	RP_DELIVERY_RELAY = 1,
};

/* Ordered: a larger value does more of the accepting in the kernel. */
enum rp_offload {
	RP_OFFLOAD_OFF = 0,
	RP_OFFLOAD_PEEK = 1,
	RP_OFFLOAD_ACCEPT = 2,
};

/* LOCAL and PROXY are the values of proxy-protocol.txt section 2.2. */
enum rp_command {
	RP_COMMAND_LOCAL = 0, /* also v1 UNKNOWN and v2 UNSPEC */
	RP_COMMAND_PROXY = 1,
	RP_COMMAND_DIRECT = 2, /* the connection had no header */
};

/*
 * What is counted, by listener. X(symbol, name): the name is the stable key
 * in JSON and metrics. Order is ABI: append only.
 */
#define RP_STATS(X)                                                          \
	X(CONNECTIONS, "connections") /* reached the handler */              \
	X(HEADER_V1, "header_v1")                                            \
	X(HEADER_V2, "header_v2")                                            \
	X(LOCAL, "local")		  /* LOCAL, UNKNOWN, UNSPEC */       \
	X(DIRECT, "direct")		  /* delivered without a header */   \
	X(PEEKED, "peeked")		  /* record bound in the kernel */   \
	X(PEEK_MISMATCH, "peek_mismatch") /* record and bytes disagree */    \
	X(CLOSED_EARLY, "closed_early")	  /* peer closed before a header */  \
	X(UNTRUSTED, "untrusted")	  /* peer is no trusted proxy */     \
	X(UNTRUSTED_HEADER, "untrusted_header")                              \
	X(NOT_HEADER, "not_header")                                          \
	X(MALFORMED, "malformed")                                            \
	X(TOO_LONG, "too_long")                                              \
	X(TIMEOUT, "timeout")		      /* header_timeout ran out */   \
	X(BAD_SOURCE, "bad_source")	      /* loopback, multicast, ... */ \
	X(HANDLER_FAILED, "handler_failed")   /* no connection to it */      \
	X(FAMILY_MISMATCH, "family_mismatch") /* v6 client, v4 handler */    \
	X(MAP_FULL, "map_full")                                              \
	X(RESOURCE, "resource") /* descriptors, memory */                    \
	X(BYTES_UP, "bytes_up") /* relayed, client to handler */             \
	X(BYTES_DOWN, "bytes_down")                                          \
	X(PEEK_RECORDED, "peek_recorded")   /* TC read a whole header */     \
	X(PEEK_UNDECIDED, "peek_undecided") /* in pieces, or too long */     \
	X(PEEK_MALFORMED, "peek_malformed")                                  \
	X(HANDSHAKES, "handshakes")   /* SYN answered by TC */               \
	X(HANDED_OVER, "handed_over") /* left to the daemon */               \
	X(STRAY, "stray")	      /* a child that nobody judged */

enum rp_stat {
#define X(symbol, name) RP_STAT_##symbol,
	RP_STATS(X)
#undef X
		RP_STAT_COUNT
};

/* Key of `stats`, a per-CPU hash of __u64. Entries are made by the daemon. */
struct rp_stat_key {
	__u32 listener;
	enum rp_stat stat;
};

RP_LAYOUT(rp_stat_key, 8, stat, 4);

/* Set in rp_tlvs.truncated where a value was longer than its field. */
enum rp_tlv_bit {
	RP_TLV_AUTHORITY = 1 << 0,
	RP_TLV_UNIQUE_ID = 1 << 1,
	RP_TLV_AWS_VPCE_ID = 1 << 2,
	RP_TLV_SSL_CN = 1 << 3,
	RP_TLV_ALPN = 1 << 4,
	RP_TLV_SSL = 1 << 5,
	RP_TLV_AZURE_LINK_ID = 1 << 6,
	RP_TLV_GCP_PSC_ID = 1 << 7,
};

/*
 * The TLVs that are kept, proxy-protocol.txt section 2.2 and the vendors':
 * value of `tlvs`. Few connections have one, and their records stay small.
 * Text is not NUL-terminated: the *_len fields say how many bytes stand.
 */
struct rp_tlvs {
	__u64 gcp_psc_id;    /* host order */
	__u32 azure_link_id; /* host order */
	__u32 ssl_verify;    /* host order, 0 means verified */
	__u16 present;	     /* enum rp_tlv_bit */
	__u8 truncated;	     /* enum rp_tlv_bit */
	__u8 ssl_client;     /* PP2_CLIENT_* bits */
	__u8 authority_len;
	__u8 unique_id_len;
	__u8 aws_vpce_id_len;
	__u8 ssl_cn_len;
	__u8 alpn_len;
	__u8 pad[3];
	char authority[92];
	__u8 unique_id[128];
	char aws_vpce_id[24];
	char ssl_cn[64];
	char alpn[8];
};

RP_LAYOUT(rp_tlvs, 344, alpn, 336);

/*
 * A connection: value of `connections`, whose key is the cookie of the socket
 * that its handler reads (inline, and relay with client_address getpeername)
 * or, in relay without it, of the socket that the daemon accepted. So each
 * connection has exactly one entry.
 */
struct rp_connection {
	__u64 since;	      /* ns of CLOCK_BOOTTIME */
	__u8 client[16];      /* the real client */
	__u8 proxy[16];	      /* the peer of the accepted socket */
	__u8 destination[16]; /* what the client connected to */
	__u16 client_port;
	__u16 proxy_port;
	__u16 destination_port;
	__u8 version;	/* of the header; 0: no header */
	__u8 command;	/* enum rp_command */
	__u8 delivery;	/* enum rp_delivery */
	__u8 offload;	/* enum rp_offload, as really used */
	__u8 shown;	/* 1: getpeername() on it tells client */
	__u8 closed;	/* 1: before accept() returned it */
	__u32 listener; /* key of `listeners` */
	char listener_name[RP_NAME_LEN];
	__u64 tlvs; /* key of `tlvs`, the cookie of one of its sockets; 0: none
		     */
};

RP_LAYOUT(rp_connection, 104, tlvs, 96);

/*
 * How long the record of a connection that ended before accept() returned it
 * stays at most, so that the server is still told who it was. See `orphans`.
 */
#define RP_ORPHAN_NS (60 * 1000000000ULL)

/* A TCP connection as this host sees it. One netns: the daemon's. */
struct rp_tuple {
	__u8 peer[16];
	__u8 local[16];
	__u16 peer_port;
	__u16 local_port;
};

RP_LAYOUT(rp_tuple, 36, local_port, 34);

/* Value of `awaiting`: an established socket whose first byte is to come. */
struct rp_awaiting {
	__u64 cookie;
	__u32 seq; /* of the first byte, host order */
	__u32 listener;
};

RP_LAYOUT(rp_awaiting, 16, listener, 12);

/*
 * Value of `pending`: what TC peeked at for a socket that does not exist yet.
 * TC runs before TCP's own tests, so what it read is a claim, and counts only
 * for a socket whose next byte has that sequence number.
 */
struct rp_pending {
	__u32 seq; /* of the next byte, host order */
	__u32 pad;
	struct rp_connection record;
};

RP_LAYOUT(rp_pending, 112, record, 8);

/* Announcements under way: those that wait for a handler's socket. */
#define RP_ANNOUNCED_MAX 16384

/*
 * Value of `outgoing`, whose key is the cookie of a socket that the daemon
 * connects to a handler: the daemon's word on who the client is, until the
 * handler's socket has it. From connect() on, `announced` has that cookie
 * under the tuple of the handler's side. So there are never more entries in
 * `announced` than here, and who is let in here is sure of a place there.
 * Who deletes an entry of `announced` has to delete, and may read, the one
 * here that it led to.
 */
struct rp_outgoing {
	struct rp_tuple tuple; /* in `announced`; local_port 0: not yet */
	__u32 pad;
	struct rp_connection record;
};

RP_LAYOUT(rp_outgoing, 144, record, 40);

/* Records of one CPU that are on their way from TC to their sockets. */
#define RP_CLAIMS 256

/*
 * Value of `claims`, an array with RP_CLAIMS of each CPU: what TC read for a
 * socket of its own making, which comes in the same softirq. An old one is
 * overwritten; whose it is, tuple and sequence number say.
 */
struct rp_claim {
	struct rp_tuple tuple;
	__u32 seq;		     /* of the next byte, host order */
	struct rp_connection record; /* .tlvs: not 0 if there are any */
	struct rp_tlvs tlvs;
};

RP_LAYOUT(rp_claim, 488, tlvs, 144);

/* Clients that were silent at header_timeout, and still are. */
#define RP_SILENT_MAX 65536

enum rp_stage {
	RP_STAGE_SYN_RECEIVED = 0, /* SYN-ACK sent, header to come */
	RP_STAGE_CLONED = 1,	   /* header read, the clone to come */
	RP_STAGE_HELD = 2,	   /* the stack's; its first bytes kept back */
	RP_STAGE_STRAY = 3,	   /* a child that nobody judged */
	RP_STAGE_JUDGED = 4,	   /* header read, the socket to come */
	RP_STAGE_DAEMON = 5,	   /* left to the stack, for the daemon */
};

enum rp_tcp_option {
	RP_OPTION_WSCALE = 1 << 0,
	RP_OPTION_SACK = 1 << 1,
	RP_OPTION_TIMESTAMPS = 1 << 2,
	RP_OPTION_ECN = 1 << 3,
};

/*
 * Value of `handshakes`: what accept() needs to know of a SYN, or TC of what it
 * left to the stack.
 */
struct rp_handshake {
	struct rp_tuple tuple;
	__u32 peer_isn; /* host order, like all here */
	__u32 own_isn;
	__u32 own_tsval;
	__u32 peer_tsval;
	__u32 listener;
	__u64 since; /* ns of CLOCK_BOOTTIME */
	__u16 peer_mss;
	__u8 peer_wscale;
	__u8 options; /* enum rp_tcp_option, agreed on */
	__u8 stage;   /* enum rp_stage */
	__u8 rounds;  /* see rp_send_round() */
	__u8 silent;  /* the claim is that of a bare ACK */
	__u8 pad;
	__u32 claim; /* its place in `claims` + 1; 0: none yet */
	__u32 pad2;
};

RP_LAYOUT(rp_handshake, 80, claim, 72);

#define RP_WAYS		 8
#define RP_BUCKETS_FIRST (1 << 7)
#define RP_BUCKETS_MORE	 (1 << 14)
#define RP_BUCKETS	 (RP_BUCKETS_FIRST + RP_BUCKETS_MORE)
#define RP_TAG_FREE	 0
#define RP_TAG_BUSY	 2 /* somebody writes there; other tags are odd */

/*
 * Value of `handshake_tags`: of a bucket, whose RP_WAYS handshakes stand in
 * `handshakes` from RP_WAYS times its number on. Both are arrays. A tuple's
 * hash says its bucket of the first ones, so few that they stay in a CPU's
 * cache, and that of the others, for when the first one is full; and the tag.
 * Whoever replaces a tag, by compare and swap, has the place; so who has read a
 * handshake looks at its tag once more, and knows whether it was that one.
 */
struct rp_bucket {
	__u32 tags[RP_WAYS];
};

RP_LAYOUT(rp_bucket, 32, tags, 0);

#define RP_CLAIM_OF_DAEMON 0xffffffffU /* the daemon will read the header */

/* Key of `endpoints`; the wildcards are :: and ::ffff:0.0.0.0. */
struct rp_endpoint {
	__u8 address[16];
	__u16 port;
	__u16 pad;
};

RP_LAYOUT(rp_endpoint, 20, port, 16);

/* What the kernel does with a peer that is not trusted. */
enum rp_untrusted {
	RP_UNTRUSTED_RESET = 0,
	RP_UNTRUSTED_DIRECT = 1,
};

/* Who made a listener, and whom it trusts from the next start on. */
enum rp_attached {
	RP_ATTACHED_NOT = 0,	/* a file */
	RP_ATTACHED_OWN = 1,	/* realpeerctl, with prefixes of its own */
	RP_ATTACHED_GLOBAL = 2, /* realpeerctl: whom [global] trusts by then */
};

/* Value of `listeners`, whose key is the listener's number. */
struct rp_listener {
	char name[RP_NAME_LEN];
	__u8 mode;	      /* enum rp_mode */
	__u8 delivery;	      /* enum rp_delivery */
	__u8 offload;	      /* enum rp_offload, as chosen */
	__u8 untrusted;	      /* enum rp_untrusted */
	__u8 special_source;  /* 1: loopback, multicast, ... accepted */
	__u8 attached;	      /* enum rp_attached */
	__u16 handler_port;   /* inline: the handler's local port */
	__u32 header_max;     /* bytes */
	__u32 header_timeout; /* ms */
};

RP_LAYOUT(rp_listener, 40, header_timeout, 36);

/* Key of `trusted`, an LPM trie; prefixlen counts the 32 listener bits too. */
struct rp_trusted {
	__u32 prefixlen;
	__u32 listener;
	__u8 address[16];
};

RP_LAYOUT(rp_trusted, 24, address, 8);

/*
 * The one value of `gates`, which the daemon has mapped: look-ups that would
 * be in vain are not made while they are shut.
 */
struct rp_gates {
	__u64 announced;    /* connections that the daemon announced and that
			       have not ended; counted by the daemon */
	__u64 strays;	    /* entries of stage STRAY ever made */
	__u64 strays_gone;  /* `strays` when the daemon last found none */
	__u64 unrecorded;   /* entries of that map */
	__u64 silent;	    /* entries of that map */
	__u64 full;	    /* 1: a record did not find room; until the daemon
			       finds some for many */
	__u64 lost_orphans; /* records that found no room in `orphans` */
	__u64 lost;	    /* sockets that TC assigned and the stack never
			       saw, one after the other; RP_LOSSES: all are */
	__u64 spilled;	    /* handshakes that were ever entered behind the
			       first buckets */
	__u64 spilled_gone; /* `spilled` when the daemon last found none there
			     */
};

RP_LAYOUT(rp_gates, 80, spilled_gone, 72);

/*
 * So many losses without a socket that came through in between. A single one
 * may be a segment that TC could not read, while the accept queue was full.
 */
#define RP_LOSSES 3

#define RP_HASH_KEYS 10 /* one for each word of a tuple, and an even number */

/* The one value of `settings`. */
struct rp_settings {
	__u32 abi;     /* RP_ABI_VERSION */
	__u32 daemons; /* listening sockets in `handover` */
	__u64 netns;   /* SO_NETNS_COOKIE of the daemon */
	/* The sysctls net.ipv4.tcp_*, as a SYN-ACK of the stack says them. */
	__u8 wscale;	 /* ours */
	__u8 options;	 /* enum rp_tcp_option that are allowed */
	__u8 syncookies; /* 0: the stack won't take our children */
	__u8 peeks;	 /* 1: some listener has offload peek */
	__u8 screens;	 /* 1: TC looks at first bytes for inline ones */
	__u8 pad[3];
	__u32 hash_key[RP_HASH_KEYS]; /* secret, so that nobody chooses buckets
				       */
};

RP_LAYOUT(rp_settings, 64, hash_key, 24);

#endif
