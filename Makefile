# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# make            build/realpeerd and build/realpeerctl
# make deps       installs what the build and the tests need (Debian, root)
# make demo       the main job on real traffic (root); installs what it needs
# make check      every test (root); installs what it needs
#                 = check-style check-unit check-bpf check-e2e
# make check-san  the same with ASan, UBSan and LSan (root)
# make check-vm   on other kernels and under a real systemd, in QEMU (root)
# make vm-tables  their tables into README.md
# make fuzz       the fuzz targets, FUZZ_SECONDS=60 each, two at a time; endless
#                 by hand: make fuzz FUZZ_SECONDS=0 FUZZ=parser
# make coverage   which lines of user/ those tests run (root)
# make soak       SOAK_SECONDS (600) of all kinds of traffic: nothing grows (root)
# make bench      realpeer beside what is used instead, measured (root)
# make install    with DESTDIR, PREFIX, SYSCONFDIR, SYSTEMDUNITDIR
# make uninstall  takes away what install put there, configuration excepted
# make deb        a Debian package in build/
# make clean
#
# V=1 shows commands, SAN=1 builds with ASan and UBSan, COVERAGE=1 with gcov,
# CI=true makes warnings errors, O=DIR builds into DIR.

VERSION := 0.1.0

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SYSTEMDUNITDIR ?= $(PREFIX)/lib/systemd/system
SBINDIR := $(PREFIX)/sbin
MANDIR := $(PREFIX)/share/man
COMPLETIONDIR := $(PREFIX)/share/bash-completion/completions
DOCDIR := $(PREFIX)/share/doc/realpeer

CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
O := build$(if $(SAN),/san)$(if $(COVERAGE),/coverage)

ifeq ($(V),)
Q := @
say = @printf '  %-8s %s\n' $(1) $(2);
endif

CFLAGS ?= -O2 -g
INSTRUMENT := $(if $(SAN),-fsanitize=address -fsanitize=undefined \
	-fno-sanitize-recover=undefined -fno-omit-frame-pointer) \
	$(if $(COVERAGE),--coverage -O0 -fprofile-update=atomic)
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wvla $(if $(CI),-Werror)
C_FLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -pthread $(CFLAGS) $(INSTRUMENT) \
	-Iinclude -Iuser -I$(O)/bpf
LD_FLAGS := $(INSTRUMENT) -pthread -Wl,--as-needed $(LDFLAGS)
LIBS := -lbpf -lelf -lz -linih -ljansson -lsystemd
BPF_FLAGS := -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra \
	-Wno-unused-parameter $(if $(CI),-Werror) -Iinclude -Ibpf \
	-I/usr/include/$(shell uname -m)-linux-gnu

comma := ,
define newline


endef

MAINS := realpeerd realpeerctl
# Everything but the mains, so that each program links what it uses.
LIB := $(O)/realpeer.a
LIB_OBJ := $(patsubst %.c,$(O)/%.o,\
	$(filter-out $(MAINS:%=user/%.c),$(wildcard user/*.c)))
BPF_OBJ := $(patsubst %.c,$(O)/%.o,$(wildcard bpf/*.bpf.c))
SKEL := $(O)/bpf/realpeer.skel.h

TEST_LIB := $(patsubst %.c,$(O)/%.o,$(wildcard tests/lib/*.c))
UNIT_TESTS := $(patsubst %.c,$(O)/%,$(wildcard tests/unit/test_*.c))
BPF_TESTS := $(patsubst %.c,$(O)/%,$(wildcard tests/bpf/test_*.c))
E2E_OBJ := $(patsubst %.c,$(O)/%.o,$(wildcard tests/e2e/*.bpf.c))
TEST_BPF_OBJ := $(patsubst %.c,$(O)/%.o,$(wildcard tests/bpf/*.bpf.c))
TEST_SKEL := $(TEST_BPF_OBJ:%.bpf.o=%.skel.h)

BENCH := $(addprefix $(O)/tests/bench/,load backend distance)
BENCH_BPF := $(patsubst %.c,$(O)/%.o,$(wildcard tests/bench/*.bpf.c))
BENCH_OBJ := $(filter-out $(BENCH:%=%.o) $(BENCH_BPF),\
	$(patsubst %.c,$(O)/%.o,$(wildcard tests/bench/*.c)))

# The targets of libFuzzer link the daemon's sources, instrumented by clang.
FUZZ_TARGETS := parser tlv admission config control
FUZZ ?= $(FUZZ_TARGETS)
FUZZ_LIB := $(O)/fuzz/realpeer.a
FUZZ_SANITIZE := address,undefined -fno-sanitize-recover=all
FUZZ_FLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -pthread -O2 -g \
	-fno-omit-frame-pointer -Iinclude -Iuser -I$(O)/bpf

# Throws segments at a listener, for tests/e2e.
THROW := $(O)/tests/throw/throw

all: $(MAINS:%=$(O)/%)

# Every object comes after the skeletons; the .d files know who needs them.
$(MAINS:%=$(O)/%): $(O)/%: $(O)/user/%.o $(LIB)
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^ $(LIBS)

$(LIB): $(LIB_OBJ)
	$(call say,AR,$@) rm -f $@ && $(AR) rcs $@ $^

$(O)/user/%.o: user/%.c Makefile | $(SKEL)
	@mkdir -p $(@D)
	$(call say,CC,$@) $(CC) $(C_FLAGS) -DREALPEER_VERSION='"$(VERSION)"' \
		-MMD -MP -c -o $@ $<

# What knows where the configuration is, and comes anew when that changes.
KNOWING := $(addprefix $(O)/,user/options.o fuzz/user/options.o \
	tests/unit/test_options.o)
$(KNOWING): C_FLAGS += -DREALPEER_SYSCONFDIR='"$(SYSCONFDIR)"'
$(KNOWING): FUZZ_FLAGS += -DREALPEER_SYSCONFDIR='"$(SYSCONFDIR)"'
$(KNOWING): $(O)/sysconfdir

$(O)/sysconfdir: FORCE
	@mkdir -p $(@D)
	@echo '$(SYSCONFDIR)' | cmp -s - $@ || echo '$(SYSCONFDIR)' >$@

$(BPF_OBJ) $(TEST_BPF_OBJ) $(E2E_OBJ) $(BENCH_BPF): $(O)/%.bpf.o: %.bpf.c Makefile
	@mkdir -p $(@D)
	$(call say,CLANG,$@) $(CLANG) $(BPF_FLAGS) -MMD -MP -c -o $@ $<

$(O)/bpf/realpeer.o: $(BPF_OBJ)
	$(call say,BPFLINK,$@) $(BPFTOOL) gen object $@ $^

$(SKEL): $(O)/bpf/realpeer.o
	$(call say,SKEL,$@) $(BPFTOOL) gen skeleton $< name realpeer >$@

$(TEST_SKEL): %.skel.h: %.bpf.o
	$(call say,SKEL,$@) $(BPFTOOL) gen skeleton $< name $(*F) >$@

# An unused static function in a test is a test that nobody registered.
$(O)/tests/%.o: tests/%.c Makefile | $(SKEL) $(TEST_SKEL)
	@mkdir -p $(@D)
	$(call say,CC,$@) $(CC) $(C_FLAGS) -Werror=unused-function -Itests/lib \
		-Itests/fuzz -I$(O)/tests/bpf -MMD -MP -c -o $@ $<

$(UNIT_TESTS) $(BPF_TESTS): %: %.o $(TEST_LIB) $(LIB)
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^ -lcmocka $(LIBS)

$(O)/tests/unit/test_no_memory: LD_FLAGS += $(patsubst %,-Wl$(comma)--wrap=%,\
	malloc calloc realloc reallocarray strdup strndup asprintf)
$(O)/tests/unit/test_gone_at_once: LD_FLAGS += -Wl,--wrap=send

$(BENCH): %: %.o $(BENCH_OBJ)
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^ $(LIBS)

$(O)/fuzz/user/%.o: user/%.c Makefile | $(SKEL)
	@mkdir -p $(@D)
	$(call say,CLANG,$@) $(CLANG) $(FUZZ_FLAGS) \
		-fsanitize=fuzzer-no-link,$(FUZZ_SANITIZE) \
		-DREALPEER_VERSION='"$(VERSION)"' -MMD -MP -c -o $@ $<

$(FUZZ_LIB): $(LIB_OBJ:$(O)/%=$(O)/fuzz/%)
	$(call say,AR,$@) rm -f $@ && $(AR) rcs $@ $^

$(O)/fuzz/tests/%.o: tests/fuzz/%.c Makefile | $(SKEL)
	@mkdir -p $(@D)
	$(call say,CLANG,$@) $(CLANG) $(FUZZ_FLAGS) \
		-fsanitize=fuzzer-no-link,$(FUZZ_SANITIZE) -MMD -MP -c -o $@ $<

$(FUZZ_TARGETS:%=$(O)/fuzz/%): $(O)/fuzz/%: $(O)/fuzz/tests/%.o \
		$(O)/fuzz/tests/fuzz.o $(FUZZ_LIB)
	$(call say,LD,$@) $(CLANG) -fsanitize=fuzzer,$(FUZZ_SANITIZE) -pthread \
		-o $@ $^ $(LIBS)

$(O)/tests/fuzz/seeds: $(addprefix $(O)/tests/,fuzz/seeds.o fuzz/fuzz.o) \
		$(patsubst %.c,$(O)/%.o,$(wildcard tests/lib/vectors*.c))
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^

fuzz:
	$(Q)scripts/install-deps.sh build fuzz
	$(Q)$(MAKE) $(if $(V),,-s) --no-print-directory \
		$(FUZZ:%=$(O)/fuzz/%) $(O)/tests/fuzz/seeds
	$(Q)rm -rf $(O)/fuzz/seeds && $(O)/tests/fuzz/seeds $(O)/fuzz/seeds
	$(Q)O=$(O) tests/fuzz/run $(FUZZ)

tests: $(UNIT_TESTS) $(BPF_TESTS) $(E2E_OBJ) $(BENCH) $(BENCH_BPF) $(THROW)

deps:
	$(Q)scripts/install-deps.sh

demo:
	$(Q)scripts/install-deps.sh build demo
	$(Q)$(MAKE) --no-print-directory all
	$(Q)O=$(abspath $(O)) scripts/demo.sh

check:
	$(Q)scripts/install-deps.sh build test
	+$(Q)O=$(abspath $(O)) MAKE='$(MAKE)' tests/run-all \
		check-style check-unit check-bpf check-e2e

# What the kernel does by itself is not instrumented: less of it will do.
INSTRUMENTED := REALPEER_E2E_CONNECTIONS=20000 REALPEER_E2E_FLOOD=20000

check-san:
	$(Q)scripts/install-deps.sh build test
	+$(Q)$(INSTRUMENTED) MAKE='$(MAKE) SAN=1' tests/run-all \
		check-unit check-bpf check-e2e

coverage:
	$(Q)scripts/install-deps.sh build test
	+$(Q)$(MAKE) --no-print-directory COVERAGE=1 coverage-forget
	+$(Q)$(INSTRUMENTED) MAKE='$(MAKE) COVERAGE=1' tests/run-all \
		check-unit check-bpf check-e2e; \
	status=$$?; \
	$(MAKE) --no-print-directory COVERAGE=1 coverage-report && exit $$status

# Each file is there before, so that whoever runs a program can add to it.
COUNTS := $(patsubst user/%.c,$(O)/user/%.gcda,$(wildcard user/*.c))

coverage-forget:
	$(Q)mkdir -p $(O)/user && rm -f $(COUNTS)
	$(Q)touch $(COUNTS) && chmod a+rw $(COUNTS)

coverage-report:
	$(Q)tests/coverage -l $(O) >$(O)/missed
	$(Q)tests/coverage $(O)
	@echo "the lines that never ran: $(O)/missed"

check-style: $(SKEL)
	$(Q)CC='$(CC)' CFLAGS='$(C_FLAGS) -Itests/fuzz' CLANG='$(CLANG)' \
		BPFFLAGS='$(BPF_FLAGS)' scripts/check-style.sh

check-unit: $(UNIT_TESTS)
	$(Q)tests/run-cmocka $^

check-bpf: $(BPF_TESTS)
	$(Q)tests/run-cmocka $^

check-e2e: all $(E2E_OBJ) $(BENCH) $(BENCH_BPF) $(THROW)
	$(Q)O=$(abspath $(O)) tests/e2e/run

$(THROW): $(patsubst %.c,$(O)/%.o,$(wildcard tests/throw/*.c)) \
		$(O)/tests/fuzz/fuzz.o $(O)/tests/lib/mutate.o \
		$(patsubst %.c,$(O)/%.o,$(wildcard tests/lib/vectors*.c)) $(LIB)
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^ $(LIBS)

$(O)/tests/vm/verifier: %: %.o
	$(call say,LD,$@) $(CC) $(LD_FLAGS) -o $@ $^ $(LIBS)

check-vm vm-tables:
	$(Q)scripts/install-deps.sh build vm
	$(Q)$(MAKE) --no-print-directory all tests $(O)/tests/vm/verifier
	$(Q)O=$(abspath $(O)) tests/vm/run $(VM_STEPS)

vm-tables: VM_STEPS := -u verifier capabilities

soak: all $(BENCH)
	$(Q)O=$(abspath $(O)) tests/soak/run

bench:
	$(Q)scripts/install-deps.sh build bench
	$(Q)$(MAKE) --no-print-directory all $(BENCH) $(BENCH_BPF)
	$(Q)O=$(abspath $(O)) tests/bench/run

# $(call install,MODE,FILE,DIRECTORY)
install = $(Q)install -D -m $(1) -t $(DESTDIR)$(3) $(2)
CONF := $(DESTDIR)$(SYSCONFDIR)/realpeer/realpeer.conf
UNITS := $(wildcard user/systemd/*.service user/systemd/*.socket)
COMPLETIONS := $(wildcard user/completion/*)
DOCS := README.md ARCHITECTURE.md SECURITY.md LICENSE
MAN_SECTIONS := $(sort $(patsubst .%,%,$(suffix $(wildcard user/man/*.[1-8]))))

# What tells where the configuration is.
INSTALLED_TEXT = $(addprefix $(DESTDIR)$(DOCDIR)/,$(DOCS)) $(foreach \
	s,$(MAN_SECTIONS),$(addprefix $(DESTDIR)$(MANDIR)/man$(s)/,\
	$(notdir $(wildcard user/man/*.$(s)))))

install: all
	$(call install,755,$(MAINS:%=$(O)/%),$(SBINDIR))
	$(call install,644,$(UNITS),$(SYSTEMDUNITDIR))
	$(Q)sed -i 's,/usr/sbin/realpeer,$(SBINDIR)/realpeer,' \
		$(addprefix $(DESTDIR)$(SYSTEMDUNITDIR)/,$(notdir $(UNITS)))
	$(foreach s,$(MAN_SECTIONS),$(call install,644,$(wildcard \
		user/man/*.$(s)),$(MANDIR)/man$(s))$(newline))
	$(call install,644,$(COMPLETIONS),$(COMPLETIONDIR))
	$(call install,644,$(DOCS),$(DOCDIR))
	$(Q)sed -i 's,/etc/realpeer,$(SYSCONFDIR)/realpeer,g' $(INSTALLED_TEXT)
	$(Q)install -d -m 755 $(dir $(CONF)) $(dir $(CONF))conf.d
	$(Q)[ -e $(CONF) ] || install -m 644 user/realpeer.conf $(CONF)

# What was configured stays: only an unchanged realpeer.conf is removed.
uninstall:
	$(Q)rm -f $(addprefix $(DESTDIR)$(SBINDIR)/,$(MAINS)) \
		$(addprefix $(DESTDIR)$(SYSTEMDUNITDIR)/,$(notdir $(UNITS))) \
		$(addprefix $(DESTDIR)$(COMPLETIONDIR)/,$(notdir $(COMPLETIONS))) \
		$(INSTALLED_TEXT)
	$(Q)if cmp -s user/realpeer.conf $(CONF); then rm $(CONF); fi
	$(Q)rmdir --ignore-fail-on-non-empty $(DESTDIR)$(DOCDIR) \
		$(dir $(CONF))conf.d $(dir $(CONF)) 2>/dev/null || true

deb: all
	$(Q)O=$(abspath $(O)) VERSION=$(VERSION) MAKE='$(MAKE)' scripts/make-deb.sh

clean:
	$(Q)rm -rf build

.PHONY: all tests deps demo check check-style check-unit check-bpf check-e2e \
	check-san check-vm vm-tables fuzz soak coverage coverage-forget \
	coverage-report bench install uninstall deb clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

-include $(wildcard $(addprefix $(O)/,*/*.d tests/*/*.d fuzz/*/*.d))
