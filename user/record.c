/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.c - see record.h. Tells nobody; registry.c does.
 */
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "clock.h"

/* The values stand behind this part of struct rp_tlvs, each as long as it is.
 */
#define TLVS_FIXED offsetof(struct rp_tlvs, authority)

bool ip_is_v4(const uint8_t ip[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

void record_begin(struct record *record, const uint8_t peer[16],
		  uint16_t peer_port)
{
	*record = (struct record){
		.since = clock_boot_ns(),
		.proxy_port = peer_port,
	};
	memcpy(record->proxy, peer, sizeof(record->proxy));
}

/* The texts and bytes of `tlvs`, in the order in which they are packed. */
static void tlvs_values(struct rp_tlvs *tlvs, void *value[5], size_t len[5])
{
	value[0] = tlvs->authority;
	len[0] = tlvs->authority_len;
	value[1] = tlvs->unique_id;
	len[1] = tlvs->unique_id_len;
	value[2] = tlvs->aws_vpce_id;
	len[2] = tlvs->aws_vpce_id_len;
	value[3] = tlvs->ssl_cn;
	len[3] = tlvs->ssl_cn_len;
	value[4] = tlvs->alpn;
	len[4] = tlvs->alpn_len;
}

static int tlvs_pack(struct rp_tlvs *tlvs, uint8_t **ret_packed)
{
	size_t len[5], need = TLVS_FIXED;
	uint8_t *packed, *end;
	void *value[5];

	tlvs_values(tlvs, value, len);
	for (int i = 0; i < 5; i++)
		need += len[i];
	packed = malloc(need);
	if (!packed)
		return -ENOMEM;
	memcpy(packed, tlvs, TLVS_FIXED);
	end = packed + TLVS_FIXED;
	for (int i = 0; i < 5; i++) {
		memcpy(end, value[i], len[i]);
		end += len[i];
	}
	*ret_packed = packed;
	return 0;
}

static void tlvs_unpack(const uint8_t *packed, struct rp_tlvs *ret)
{
	void *value[5];
	size_t len[5];

	memcpy(ret, packed, TLVS_FIXED);
	packed += TLVS_FIXED;
	tlvs_values(ret, value, len);
	for (int i = 0; i < 5; i++) {
		memcpy(value[i], packed, len[i]);
		packed += len[i];
	}
}

/* The socket's own endpoints stand. */
static void fill_from_socket(struct record *record, int fd)
{
	struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(local);

	memcpy(record->client, record->proxy, sizeof(record->client));
	record->client_port = record->proxy_port;
	getsockname(fd, (struct sockaddr *)&local, &len);
	address_split((struct sockaddr *)&local, record->destination,
		      &record->destination_port);
}

int record_fill(struct record *record, int fd, const struct rp_header *header,
		const uint8_t *data)
{
	struct rp_tlvs tlvs;

	record->command = header ? header->command : RP_COMMAND_DIRECT;
	record->version = header ? header->version : 0;
	if (record->command == RP_COMMAND_PROXY) {
		memcpy(record->client, header->source, sizeof(record->client));
		memcpy(record->destination, header->destination,
		       sizeof(record->destination));
		record->client_port = header->source_port;
		record->destination_port = header->destination_port;
	} else {
		fill_from_socket(record, fd);
	}
	if (!header || !header->present)
		return 0;
	rp_tlvs_fill(header, data, &tlvs);
	return tlvs_pack(&tlvs, &record->tlvs);
}

int record_take(struct record *record, const struct rp_connection *known,
		const struct rp_tlvs *tlvs)
{
	struct rp_tlvs copy;

	record->since = known->since;
	record->command = known->command;
	record->version = known->version;
	memcpy(record->client, known->client, sizeof(record->client));
	memcpy(record->destination, known->destination,
	       sizeof(record->destination));
	record->client_port = known->client_port;
	record->destination_port = known->destination_port;
	if (!tlvs)
		return 0;
	copy = *tlvs;
	return tlvs_pack(&copy, &record->tlvs);
}

bool record_expand(const struct record *record, struct rp_connection *ret,
		   struct rp_tlvs *ret_tlvs)
{
	*ret = (struct rp_connection){
		.since = record->since,
		.client_port = record->client_port,
		.proxy_port = record->proxy_port,
		.destination_port = record->destination_port,
		.version = record->version,
		.command = record->command,
	};
	memcpy(ret->client, record->client, sizeof(ret->client));
	memcpy(ret->proxy, record->proxy, sizeof(ret->proxy));
	memcpy(ret->destination, record->destination, sizeof(ret->destination));
	if (!record->tlvs)
		return false;
	memset(ret_tlvs, 0, sizeof(*ret_tlvs));
	tlvs_unpack(record->tlvs, ret_tlvs);
	return true;
}

bool record_agrees(const struct record *record,
		   const struct rp_connection *claim)
{
	return claim->version == record->version &&
	       claim->command == record->command &&
	       claim->client_port == record->client_port &&
	       claim->destination_port == record->destination_port &&
	       memcmp(claim->client, record->client, 16) == 0 &&
	       memcmp(claim->destination, record->destination, 16) == 0;
}

void record_end(struct record *record)
{
	free(record->tlvs);
	record->tlvs = NULL;
}
