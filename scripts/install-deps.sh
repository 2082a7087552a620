#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# install-deps.sh [GROUP...] - installs what is missing, on Debian 12 or later,
# as root. Groups: build, demo, test, fuzz, vm, bench; the first three without argument.
# Quiet when nothing is missing. Starts no service.
set -euo pipefail

packages_of() {
	case $1 in
	build)
		echo gcc make clang bpftool libbpf-dev libelf-dev zlib1g-dev \
			libc6-dev linux-libc-dev libinih-dev libjansson-dev \
			libsystemd-dev
		;;
	demo)
		echo bpftool iproute2 util-linux mount haproxy mosquitto \
			mosquitto-clients
		;;
	test)
		packages_of demo
		echo libcmocka-dev python3 openssl ethtool nginx-light \
			libnginx-mod-stream nftables nats-server rabbitmq-server \
			redis-server systemd clang-format shellcheck man-db git
		;;
	fuzz)
		echo clang libclang-rt-dev
		;;
	bench)
		packages_of demo
		echo nginx-light libnginx-mod-stream librsvg2-bin
		;;
	vm)
		packages_of test
		echo qemu-system-x86 busybox-static kmod zstd xz-utils dbus
		;;
	*)
		die "no group $1; there are build, demo, test, fuzz, vm and bench"
		;;
	esac
}

policy=/usr/sbin/policy-rc.d
log=

die() {
	printf 'install-deps.sh: %s\n' "$*" >&2
	exit 1
}

# One of "nginx-light" and its likes may be there already.
is_installed() {
	local name=$1
	[ "$name" != nginx-light ] || ! command -v nginx >/dev/null || return 0
	dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null |
		grep -qx installed
}

list_missing() {
	local name
	for name in $1; do
		is_installed "$name" || echo "$name"
	done | sort -u
}

# Packages of servers start them. Whoever runs this wants the programs only.
forbid_services() {
	if [ -e "$policy" ]; then
		# Something is decided already: is it a no?
		"$policy" mosquitto start >/dev/null 2>&1 || [ $? -ne 101 ] || return 0
		mv "$policy" "$policy.realpeer"
	fi
	printf '#!/bin/sh\n# of realpeer, for the time of an install\nexit 101\n' \
		>"$policy.new"
	chmod 755 "$policy.new"
	mv "$policy.new" "$policy"
}

allow_services() {
	if [ -e "$policy.realpeer" ]; then
		mv "$policy.realpeer" "$policy"
	elif grep -qs '^# of realpeer' "$policy"; then
		rm -f "$policy"
	fi
}

# What apt-get prints is shown only if it fails.
quietly() {
	"$@" >"$log" 2>&1 </dev/null && return
	cat "$log" >&2
	return 1
}

finish() {
	allow_services
	rm -f "$log"
}

[ $# -gt 0 ] || set -- build demo test
wanted=
for group; do
	wanted+=" $(packages_of "$group")"
done

command -v dpkg-query >/dev/null ||
	die "this is no Debian; CONTRIBUTING.md names what is needed"
mapfile -t missing < <(list_missing "$wanted")
[ "${#missing[@]}" -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || die "run as root, or install: ${missing[*]}"

printf 'Installing %s\n' "${missing[*]}"
log=$(mktemp)
trap finish EXIT
trap 'exit 130' INT TERM HUP
forbid_services
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
quietly "${apt[@]}" update || die "apt-get update failed"
quietly "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
	die "apt-get install failed"
