#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# make-deb.sh - builds $O/realpeer_VERSION_ARCH.deb from `make install`.
# `make deb` runs it, with O, VERSION and MAKE set. Needs dpkg-dev.
set -eu
cd "$(dirname "$0")/.."
umask 022

arch=$(dpkg --print-architecture)
work=$O/deb
root=$work/root
rm -rf "$work"
mkdir -p "$root/DEBIAN" "$work/debian"

${MAKE:-make} --no-print-directory install DESTDIR="$root" PREFIX=/usr \
	SYSCONFDIR=/etc SYSTEMDUNITDIR=/lib/systemd/system
strip --strip-unneeded "$root"/usr/sbin/*
gzip -9n "$root"/usr/share/man/man*/*
mv "$root/usr/share/doc/realpeer/LICENSE" "$root/usr/share/doc/realpeer/copyright"

# dpkg-shlibdeps wants a source package's control file beside it.
printf 'Source: realpeer\n\nPackage: realpeer\nArchitecture: any\n' \
	>"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/sbin/* |
	sed -n 's/^shlibs:Depends=//p')

cat >"$root/DEBIAN/control" <<CONTROL
Package: realpeer
Version: $VERSION
Architecture: $arch
Maintainer: the realpeer authors <realpeer@localhost>
Section: net
Priority: optional
Depends: $depends
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Description: gives TCP servers the client address behind a load balancer
 realpeer reads the PROXY protocol header, version 1 or 2, that a load
 balancer puts in front of a connection, removes it, and shows the address of
 the real client to a server that knows nothing of the protocol.
CONTROL

echo /etc/realpeer/realpeer.conf >"$root/DEBIAN/conffiles"

# The service is not started by itself: it has no listener to begin with.
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# an upgrade: connections go on, pinned maps stay
	[ -z "$2" ] || systemctl try-restart realpeer.service
fi
POSTINST
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl disable --now realpeer.socket realpeer.service
fi
PRERM
cat >"$root/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
# Of a daemon that was stopped between two attempts to start.
if [ "$1" = remove ] && [ -d /sys/fs/bpf/realpeer ]; then
	rm -r /sys/fs/bpf/realpeer
fi
POSTRM
chmod 755 "$root"/DEBIAN/post* "$root"/DEBIAN/prerm
(cd "$root" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) \
	>"$root/DEBIAN/md5sums"

dpkg-deb --root-owner-group --build "$root" "$O/realpeer_${VERSION}_$arch.deb"
rm -rf "$work"
