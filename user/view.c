/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * view.c - see view.h. Builds and prints; must not fetch what it shows.
 */
#include "view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "address.h"
#include "clock.h"
#include "config.h"
#include "log.h"

#define NS_PER_S      1000000000ull
#define TIME_TEXT_MAX 32

static const char *const stat_names[RP_STAT_COUNT] = {
#define X(symbol, name) [RP_STAT_##symbol] = name,
	RP_STATS(X)
#undef X
};

static const struct {
	enum rp_tlv_bit bit;
	const char *name;
} tlv_names[] = {
	{RP_TLV_AUTHORITY, "authority"}, {RP_TLV_UNIQUE_ID, "unique_id"},
	{RP_TLV_ALPN, "alpn"},		 {RP_TLV_AWS_VPCE_ID, "aws_vpce_id"},
	{RP_TLV_SSL_CN, "ssl_cn"},
};

const char *view_stat_name(enum rp_stat stat)
{
	return stat_names[stat];
}

/* Takes `value`; NULL (no memory) makes *ok false. */
static void put(json_t *object, const char *key, json_t *value, bool *ok)
{
	if (json_object_set_new(object, key, value) < 0)
		*ok = false;
}

static uint64_t wall_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Records tell CLOCK_BOOTTIME, which setting the time does not touch. */
static const char *since_format(uint64_t since, char out[TIME_TEXT_MAX])
{
	uint64_t boot = clock_boot_ns();
	uint64_t at = wall_clock_ns() - (since < boot ? boot - since : 0);
	time_t seconds = (time_t)(at / NS_PER_S);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_TEXT_MAX - n, ".%03uZ",
		 (unsigned int)(at % NS_PER_S / 1000000));
	return out;
}

json_t *view_text(const void *text, size_t len)
{
	json_t *json = json_stringn(text, len);
	char *escaped = json ? NULL : malloc(4 * len + 1);

	if (escaped)
		json = json_string(log_escape(text, len, escaped, 4 * len + 1));
	free(escaped);
	return json;
}

static json_t *unique_id_json(const uint8_t *id, size_t len)
{
	char hex[2 * 128 + 1] = "";
	bool printable = true;

	for (size_t i = 0; i < len; i++) {
		printable &= id[i] > 0x20 && id[i] < 0x7f;
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	}
	return printable ? json_stringn((const char *)id, len)
			 : json_string(hex);
}

static size_t at_most(size_t len, size_t size)
{
	return len < size ? len : size;
}

static json_t *truncated_json(unsigned int bits)
{
	json_t *array = json_array();

	for (size_t i = 0; i < sizeof(tlv_names) / sizeof(tlv_names[0]); i++) {
		if ((bits & tlv_names[i].bit) &&
		    json_array_append_new(array,
					  json_string(tlv_names[i].name)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static void put_tlv_texts(json_t *object, const struct rp_tlvs *tlvs, bool *ok)
{
	unsigned int have = tlvs->present;

	if (have & RP_TLV_AUTHORITY)
		put(object, "authority",
		    view_text(tlvs->authority,
			      at_most(tlvs->authority_len,
				      sizeof(tlvs->authority))),
		    ok);
	if (have & RP_TLV_UNIQUE_ID)
		put(object, "unique_id",
		    unique_id_json(tlvs->unique_id,
				   at_most(tlvs->unique_id_len,
					   sizeof(tlvs->unique_id))),
		    ok);
	if (have & RP_TLV_ALPN)
		put(object, "alpn",
		    view_text(tlvs->alpn,
			      at_most(tlvs->alpn_len, sizeof(tlvs->alpn))),
		    ok);
	if (have & RP_TLV_AWS_VPCE_ID)
		put(object, "aws_vpce_id",
		    view_text(tlvs->aws_vpce_id,
			      at_most(tlvs->aws_vpce_id_len,
				      sizeof(tlvs->aws_vpce_id))),
		    ok);
	if (have & RP_TLV_SSL_CN)
		put(object, "ssl_cn",
		    view_text(tlvs->ssl_cn,
			      at_most(tlvs->ssl_cn_len, sizeof(tlvs->ssl_cn))),
		    ok);
}

static json_t *tlvs_json(const struct rp_tlvs *tlvs, bool *ok)
{
	json_t *object = json_object();
	char number[24];

	put_tlv_texts(object, tlvs, ok);
	if (tlvs->present & RP_TLV_SSL) {
		put(object, "ssl_client", json_integer(tlvs->ssl_client), ok);
		put(object, "ssl_verify", json_integer(tlvs->ssl_verify), ok);
	}
	if (tlvs->present & RP_TLV_AZURE_LINK_ID)
		put(object, "azure_link_id", json_integer(tlvs->azure_link_id),
		    ok);
	/* As text: many readers of JSON have 53 bits for a number. */
	if (tlvs->present & RP_TLV_GCP_PSC_ID) {
		snprintf(number, sizeof(number), "%" PRIu64,
			 (uint64_t)tlvs->gcp_psc_id);
		put(object, "gcp_psc_id", json_string(number), ok);
	}
	if (tlvs->truncated)
		put(object, "truncated", truncated_json(tlvs->truncated), ok);
	return object;
}

static const char *command_name(uint8_t command)
{
	switch ((enum rp_command)command) {
	case RP_COMMAND_LOCAL:
		return "local";
	case RP_COMMAND_PROXY:
		return "proxy";
	case RP_COMMAND_DIRECT:
		return "direct";
	}
	return "?";
}

static void put_endpoint(json_t *object, const char *key, const char *port_key,
			 const uint8_t ip[16], uint16_t port, bool *ok)
{
	char text[INET6_ADDRSTRLEN];

	put(object, key, json_string(ip_format(ip, text)), ok);
	put(object, port_key, json_integer(port), ok);
}

json_t *view_connection(uint64_t cookie, const struct rp_connection *record,
			const struct rp_tlvs *tlvs)
{
	json_t *object = json_object();
	char ip[INET6_ADDRSTRLEN], since[TIME_TEXT_MAX];
	bool v6 = strchr(ip_format(record->client, ip), ':'), ok = object;

	put(object, "cookie", json_integer((json_int_t)cookie), &ok);
	put(object, "listener",
	    view_text(record->listener_name,
		      strnlen(record->listener_name, RP_NAME_LEN)),
	    &ok);
	put_endpoint(object, "client", "client_port", record->client,
		     record->client_port, &ok);
	put_endpoint(object, "proxy", "proxy_port", record->proxy,
		     record->proxy_port, &ok);
	put_endpoint(object, "destination", "destination_port",
		     record->destination, record->destination_port, &ok);
	put(object, "family", json_string(v6 ? "ipv6" : "ipv4"), &ok);
	put(object, "version", json_integer(record->version), &ok);
	put(object, "command", json_string(command_name(record->command)), &ok);
	put(object, "delivery", json_string(delivery_name(record->delivery)),
	    &ok);
	put(object, "offload", json_string(offload_name(record->offload)), &ok);
	put(object, "since", json_string(since_format(record->since, since)),
	    &ok);
	put(object, "tlvs", tlvs ? tlvs_json(tlvs, &ok) : json_object(), &ok);
	if (ok)
		return object;
	json_decref(object);
	return NULL;
}

json_t *view_stats(const uint64_t counts[static RP_STAT_COUNT])
{
	json_t *object = json_object();
	bool ok = object;

	for (enum rp_stat stat = 0; stat < RP_STAT_COUNT; stat++)
		put(object, stat_names[stat],
		    json_integer((json_int_t)counts[stat]), &ok);
	if (ok)
		return object;
	json_decref(object);
	return NULL;
}
