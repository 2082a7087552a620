#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# demo.sh - an unmodified Mosquitto behind HAProxy: without realpeer, with
# realpeerd relaying, and inline, on real traffic in namespaces of its own.
# Needs root and what `make` builds ($O, or build/). Leaves nothing behind;
# ends with OK or FAILED.
#
#	 client                 lb                    server
#	 203.0.113.10 to .12 -- .1 HAProxy 10.77.0.1 -- .2 Mosquitto, realpeerd
#	 2001:db8:cafe::10      ::1        fd77::1      ::2
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

top=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${O:-$top/build}
prefix=realpeer-demo-$$
clients=(203.0.113.10 203.0.113.11 203.0.113.12 2001:db8:cafe::10)
work=
mounted=()
pids=()

title() {
	if [ -t 1 ]; then
		printf '\n\033[1m== %s\033[0m\n' "$*"
	else
		printf '\n== %s\n' "$*"
	fi
}

say() {
	printf '%s\n' "$*"
}

show() { # indented
	sed 's/^/    /'
}

fail() {
	local log
	printf '\nFAILED: %s\n' "$*" >&2
	for log in "${work:-/nowhere}"/*.log; do
		[ ! -s "$log" ] || { printf -- '--- %s\n' "${log##*/}" && tail -n 20 "$log"; } >&2
	done
	exit 1
}

in_netns() { # NAME COMMAND...: `ip netns exec` would hide bpffs and cgroup2
	local name=$1
	shift
	nsenter --net="/run/netns/$prefix-$name" "$@"
}

start() { # LOG NAMESPACE COMMAND...
	local log=$work/$1.log name=$2
	shift 2
	setpriv --pdeathsig TERM nsenter --net="/run/netns/$prefix-$name" "$@" \
		>>"$log" 2>&1 </dev/null &
	pids+=($!)
}

stop() { # the process started last
	local pid=${pids[-1]}
	unset 'pids[-1]'
	kill "$pid" 2>/dev/null || :
	wait "$pid" || :
}

until_true() { # WHAT COMMAND...
	local what=$1 deadline=$((SECONDS + 10))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || fail "waited 10 s for $what"
		sleep 0.05
	done
}

finish() {
	local status=$? name
	trap '' INT TERM
	while [ ${#pids[@]} -gt 0 ]; do
		stop
	done
	for name in client lb server; do
		ip netns delete "$prefix-$name" 2>/dev/null || :
	done
	# realpeerd may have been killed, with its pins in place
	rm -rf "/sys/fs/bpf/$prefix"
	for name in "${mounted[@]}"; do
		umount "$name" || :
	done
	[ -z "$work" ] || rm -rf "$work"
	exit "$status"
}

check_machine() {
	local program
	[ "$(id -u)" -eq 0 ] || fail "run as root"
	for program in ip nsenter setpriv haproxy mosquitto mosquitto_sub bpftool ss; do
		command -v "$program" >/dev/null ||
			fail "no $program: run scripts/install-deps.sh demo"
	done
	[ -x "$build/realpeerd" ] && [ -x "$build/realpeerctl" ] ||
		fail "no realpeerd in $build: run make"
}

# A container may have neither mounted.
mount_kernel_files() {
	if ! grep -q '^[^ ]* /sys/fs/bpf bpf ' /proc/mounts; then
		mount -t bpf bpf /sys/fs/bpf || fail "cannot mount bpffs"
		mounted+=(/sys/fs/bpf)
	fi
	if ! grep -q '^[^ ]* [^ ]* cgroup2 ' /proc/mounts; then
		mkdir "$work/cgroup"
		mount -t cgroup2 cgroup2 "$work/cgroup" || fail "cannot mount cgroup2"
		mounted+=("$work/cgroup")
	fi
}

make_namespaces() {
	local address
	for name in client lb server; do
		ip netns add "$prefix-$name" || fail "cannot make a network namespace"
		ip -n "$prefix-$name" link set lo up
	done
	ip link add front netns "$prefix-client" type veth peer front netns "$prefix-lb"
	ip link add back netns "$prefix-lb" type veth peer back netns "$prefix-server"
	for address in "${clients[@]}"; do
		give client front "$address"
	done
	give lb front 203.0.113.1 2001:db8:cafe::1
	give lb back 10.77.0.1 fd77::1
	give server back 10.77.0.2 fd77::2
}

give() { # NAMESPACE LINK ADDRESS...
	local name=$prefix-$1 link=$2 address
	shift 2
	for address; do
		case $address in
		*:*) ip -n "$name" address add "$address/64" dev "$link" nodad ;;
		*) ip -n "$name" address add "$address/24" dev "$link" ;;
		esac
	done
	ip -n "$name" link set "$link" up
}

start_mosquitto() { # LISTENER-LINE...
	{
		printf '%s\n' 'user root' 'allow_anonymous true' 'log_dest stderr' \
			'connection_messages true'
		printf 'listener %s\n' "$@"
	} >"$work/mosquitto.conf"
	start mosquitto server mosquitto -c "$work/mosquitto.conf"
	until_true "Mosquitto" grep -q running "$work/mosquitto.log"
}

start_haproxy() { # OPTION-FOR-THE-SERVER
	cat >"$work/haproxy.cfg" <<-CONFIG
	defaults
	    mode tcp
	    timeout connect 3s
	    timeout client 60s
	    timeout server 60s
	listen mqtt
	    bind 203.0.113.1:1883
	    server broker 10.77.0.2:1883 $1
	listen mqtt6
	    bind [2001:db8:cafe::1]:1883
	    server broker [fd77::2]:1883 $1
	CONFIG
	start haproxy lb haproxy -db -f "$work/haproxy.cfg"
	until_true "HAProxy" is_listening lb
}

is_listening() { # NAMESPACE
	in_netns "$1" ss -Hltn | grep -q ':1883 '
}

start_realpeerd() { # reads the configuration
	cat >"$work/realpeer.conf"
	show <"$work/realpeer.conf"
	export REALPEER_BPFFS=/sys/fs/bpf/$prefix REALPEER_RUN=$work/run
	start realpeerd server "$build/realpeerd" -c "$work/realpeer.conf"
	until_true "realpeerd" "$build/realpeerctl" status
}

# Each client subscribes and stays; its own address and port are noted.
connect_clients() { # ROUND
	local number front address
	for number in "${!clients[@]}"; do
		address=${clients[number]} front=203.0.113.1
		[[ $address != *:* ]] || front=2001:db8:cafe::1
		start clients client mosquitto_sub -h "$front" -A "$address" -i "$1-$number" -t demo
		until_true "client $1-$number at Mosquitto" \
			grep -q "New client connected .* as $1-$number " "$work/mosquitto.log"
	done
	in_netns client ss -Htn state established dst :1883 |
		awk '{ print $3 }' | tr -d '[]' >"$work/$1.sockets"
	[ "$(wc -l <"$work/$1.sockets")" -eq ${#clients[@]} ] ||
		fail "not every client is connected"
}

disconnect_clients() {
	local address
	for address in "${clients[@]}"; do
		stop
	done
}

mosquitto_saw() { # ROUND
	grep "New client connected .* as $1-" "$work/mosquitto.log"
}

without_realpeer() {
	title "1. Mosquitto behind HAProxy, without realpeer"
	say "Four clients connect to HAProxy, from ${clients[*]}."
	say "Mosquitto's log knows only HAProxy's own addresses, 10.77.0.1 and fd77::1:"
	start_mosquitto '1883 10.77.0.2' '1883 fd77::2'
	start_haproxy ''
	connect_clients before
	mosquitto_saw before | show
	if grep -qFf "$work/before.sockets" <(mosquitto_saw before); then
		fail "Mosquitto saw a client without realpeer: this demo proves nothing"
	fi
	disconnect_clients
	stop
	stop
}

relayed() {
	title "2. realpeerd relays (Linux 6.1 and later)"
	say "HAProxy says send-proxy-v2. The same Mosquitto, unmodified, listens on"
	say "port 2883 of localhost; realpeerd takes its place, with this configuration:"
	start_mosquitto '2883 127.0.0.1' '2883 ::1'
	start_realpeerd <<-'CONFIG'
	[global]
	trusted        = 10.77.0.0/24, fd77::/64

	[listener mqtt]
	listen         = 10.77.0.2:1883
	delivery       = relay
	handler        = 127.0.0.1:2883
	client_address = getpeername

	[listener mqtt6]
	listen         = [fd77::2]:1883
	delivery       = relay
	handler        = [::1]:2883
	client_address = getpeername
	CONFIG
	until_true "realpeerd's listeners" is_listening server
	start_haproxy send-proxy-v2
	connect_clients relay
	show_records relay
	what_the_server_saw relay
	stop_all
}

# Does this kernel let TC create the server's sockets?
can_inline() {
	printf '[listener probe]\nlisten = 127.0.0.1:1883\noffload = accept\n' \
		>"$work/probe.conf"
	in_netns server "$build/realpeerd" -n -c "$work/probe.conf" \
		>"$work/probe.txt" 2>&1
}

inline() {
	title "3. Inline (Linux 6.9 and later): nothing between HAProxy and Mosquitto"
	if ! can_inline; then
		say "Not on this kernel:"
		show <"$work/probe.txt"
		return
	fi
	say "Mosquitto owns port 1883 again, as in 1. realpeerd has no listener at all:"
	start_mosquitto '1883 10.77.0.2' '1883 fd77::2'
	start_realpeerd <<-'CONFIG'
	[global]
	CONFIG
	say "    # realpeerctl attach 1883 --trusted 10.77.0.0/24,fd77::/64"
	"$build/realpeerctl" attach 1883 --trusted 10.77.0.0/24,fd77::/64 ||
		fail "realpeerctl attach failed"
	start_haproxy send-proxy-v2
	connect_clients inline
	show_records inline
	say
	say "The sockets of port 1883, and whose they are (ss -tnp): Mosquitto's, all of them."
	in_netns server ss -Htnp sport = :1883 >"$work/ss"
	show <"$work/ss"
	if grep -q realpeerd "$work/ss"; then
		fail "realpeerd is in the data path"
	fi
	[ "$(grep -c '"mosquitto"' "$work/ss")" -eq ${#clients[@]} ] ||
		fail "these are not Mosquitto's sockets"
	what_the_server_saw inline
	stop_all
}

show_records() { # ROUND
	local socket
	say
	say "The clients' own sockets, as their side sees them:"
	show <"$work/$1.sockets"
	say
	say "    # realpeerctl connections"
	"$build/realpeerctl" connections >"$work/connections" ||
		fail "realpeerctl connections failed"
	show <"$work/connections"
	say
	say "    # bpftool map dump pinned /sys/fs/bpf/$prefix/connections (some fields)"
	bpftool map dump pinned "/sys/fs/bpf/$prefix/connections" >"$work/dump" ||
		fail "bpftool cannot read the map"
	grep -E '"(key|client|client_port|proxy_port|version|listener_name)":' \
		"$work/dump" | sed 's/^  *//; /key/! s/^/    /; s/[0-9]$/&],/' | show
	while IFS= read -r socket; do
		grep -qF "\"client_port\": ${socket##*:}" "$work/dump" ||
			fail "$socket is not in the map"
	done <"$work/$1.sockets"
}

what_the_server_saw() { # ROUND
	local socket
	say
	say "What the server saw: Mosquitto's own log"
	mosquitto_saw "$1" | show
	while IFS= read -r socket; do
		mosquitto_saw "$1" | grep -qF " from $socket as " ||
			fail "$socket is not in Mosquitto's log"
	done <"$work/$1.sockets"
}

stop_all() { # the clients, HAProxy, realpeerd, Mosquitto
	disconnect_clients
	stop
	stop
	stop
}

trap 'fail "ended by a signal"' INT TERM HUP
trap finish EXIT
check_machine
work=$(mktemp -d /tmp/realpeer-demo.XXXXXX)
mount_kernel_files
make_namespaces
without_realpeer
relayed
inline
printf '\nOK: Mosquitto logged address and port of every real client\n'
