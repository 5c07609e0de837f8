# sockshard. `make` builds, `make demo` shows, `make check` tests; V=1 shows the commands.
# User flags (CFLAGS, CPPFLAGS, LDFLAGS) come last.

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
libdir  ?= $(prefix)/lib/sockshard
mandir  ?= $(prefix)/share/man
completiondir ?= $(prefix)/share/bash-completion/completions
BUILD   ?= build

SYSTEM := $(shell uname -s)
OS_Linux = linux
OS_FreeBSD = freebsd
OS_DragonFly = dragonfly
OS_NetBSD = netbsd
OS_OpenBSD = openbsd
OS_Darwin = darwin
OS := $(or $(OS_$(SYSTEM)),unsupported)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wwrite-strings \
        -Wformat=2 -Wvla -Wundef
OPT  := -O2 -g
BASE := -std=gnu11 $(OPT) $(WARN) -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIC \
        -fvisibility=hidden -D_GNU_SOURCE -DSOCKSHARD_OS=os_$(OS)
LINK := -Wl,-z,relro,-z,now,-z,defs
CC   ?= cc
ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' "$(1)" "$(patsubst $(CURDIR)/%,%,$(2))";
endif

UTIL   := $(wildcard shim/util/*.c)
POLICY := $(wildcard shim/policy/*.c)
STEER  := $(wildcard shim/steer/*.c)
OS_SRC := shim/os/os.c shim/os/probe.c $(wildcard shim/os/$(OS)*.c)
CLIENT := shim/keeper/wire.c shim/keeper/peer.c shim/keeper/client.c shim/keeper/spawn.c
KEEPER := $(wildcard shim/keeper/*.c)
CORE   := $(wildcard shim/core/*.c)
HOOKS  := $(wildcard shim/hooks/*.c)
CLI    := $(wildcard shim/cli/*.c)

LIB_SRC := shim/sys/next.c $(UTIL) $(POLICY) $(OS_SRC) $(CLIENT) $(CORE) $(HOOKS)
CMD_SRC := shim/sys/libc.c $(UTIL) $(POLICY) $(STEER) $(OS_SRC) $(KEEPER) $(CLI)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

all: $(BUILD)/libsockshard.so $(BUILD)/sockshard

$(BUILD)/libsockshard.so: $(call obj,$(LIB_SRC)) shim/sockshard.map
	$(call say,LINK,$@)$(CC) -shared -o $@ $(call obj,$(LIB_SRC)) -Wl,--version-script=shim/sockshard.map \
	  -Wl,-soname,libsockshard.so $(LINK) $(CFLAGS) $(LDFLAGS) -ldl -pthread

$(BUILD)/sockshard: $(call obj,$(CMD_SRC))
	$(call say,LINK,$@)$(CC) -o $@ $(call obj,$(CMD_SRC)) $(LINK) $(CFLAGS) $(LDFLAGS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

clean:
	rm -rf $(BUILD)

# --- tools begin
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c))
LINT_C   := $(wildcard shim/*/*.c tests/*/*.c examples/*.c)
MAN      := $(wildcard docs/man/*.[1-9])
INSTALLED = $(bindir)/sockshard $(libdir)/libsockshard.so \
            $(completiondir)/sockshard \
            $(foreach m,$(MAN),$(mandir)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))

# python3 is nice to have there: examples/demo has a server of its own.
demo:
	@tests/support/deps cc libc uthash
	@tests/support/deps python3 || echo "demo: goes on without python3" >&2
	@$(MAKE) --no-print-directory $(JOBS) $(if $(V),,-s say=) all examples
	@BUILD='$(BUILD)' examples/demo

examples: $(EXAMPLES)

$(EXAMPLES): $(BUILD)/%: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=gnu11 $(OPT) $(WARN) -D_GNU_SOURCE $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

install: all
	install -d $(sort $(dir $(INSTALLED:%=$(DESTDIR)%)))
	install -m 755 $(BUILD)/sockshard $(DESTDIR)$(bindir)/sockshard
	install -m 644 $(BUILD)/libsockshard.so $(DESTDIR)$(libdir)/libsockshard.so
	install -m 644 shim/cli/completion.bash $(DESTDIR)$(completiondir)/sockshard
	$(foreach m,$(MAN),install -m 644 $(m) $(DESTDIR)$(mandir)/man$(subst .,,$(suffix $(m)))/ &&) :

# Leaves folders that others use too.
uninstall:
	rm -f $(INSTALLED:%=$(DESTDIR)%)
	-@rmdir $(DESTDIR)$(libdir) 2>/dev/null || :

lint:
	@tests/support/deps cc libc uthash cmocka clang-tidy shellcheck
	@$(MAKE) --no-print-directory $(JOBS) $(if $(V),,-s say=) $(BUILD)/libsockshard.so
	@tests/lint/includes
	@tests/lint/systems
	@tests/lint/exports $(BUILD)/libsockshard.so
	@tests/lint/shells
	@tests/lint/tidy '$(BASE) $(CPPFLAGS)' $(LINT_C)

.PHONY: demo examples install uninstall lint
# --- tools end

# --- tests begin
# Everything but hooks and main() in one archive: a test binary takes from it what it uses.
DEPS_BUILD := cc make libc uthash cmocka
DEPS_CHECK := python3 node nginx redis-server memcached haproxy lighttpd dnsmasq javac bwrap ip unshare \
              setpriv pgrep curl git clang fuzzer valgrind musl-gcc clang-tidy shellcheck go setcap \
              gunicorn uwsgi apache2 php-fpm unicorn puma nsd hypercorn
TEST_LIB   := shim/sys/libc.c $(UTIL) $(POLICY) $(STEER) $(wildcard shim/os/*.c) $(KEEPER) $(CORE) \
              $(filter-out shim/cli/main.c,$(CLI)) $(wildcard tests/support/fake_sys.c tests/model/cbpf.c)
UNIT_SRC   := $(wildcard tests/unit/test_*.c tests/model/test_*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)
HELPER_SRC := $(wildcard tests/preload/*.c tests/chaos/*.c tests/support/ident_server.c \
                tests/support/old_kernel.c)
UNIT       := $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZ       := $(FUZZ_SRC:%.c=$(BUILD)/%)
HELPERS    := $(HELPER_SRC:%.c=$(BUILD)/%)
JOBS        = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell getconf _NPROCESSORS_ONLN))
MUSL_CC    := $(if $(shell command -v musl-gcc),musl-gcc -idirafter /usr/include \
                -idirafter /usr/include/$(shell gcc -dumpmachine),$(CC))
SANE       := -fno-omit-frame-pointer -fno-sanitize-recover=all

deps:
	@tests/support/deps $(DEPS_BUILD) $(DEPS_CHECK)

deps-demo:
	@tests/support/deps $(DEPS_BUILD) python3

# Each step in a make of its own: what a step installs or builds must be there before the next looks.
check: deps
	@$(MAKE) --no-print-directory $(JOBS) all unit-built helpers
	@$(MAKE) --no-print-directory $(JOBS) asan-built ubsan-built fuzz-built musl-built fault-built
	@BUILD='$(BUILD)' tests/run

unit: unit-built
	@BUILD='$(BUILD)' tests/run 'unit/'

check-asan: asan-built
	@BUILD='$(BUILD)' tests/run 'asan/'

check-ubsan: ubsan-built
	@BUILD='$(BUILD)' tests/run 'ubsan/'

fuzz-short: fuzz-built
	@BUILD='$(BUILD)' tests/run 'fuzz/'

unit-built: $(UNIT)

helpers: $(HELPERS)

asan-built:
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/asan' \
	  CFLAGS='$(CFLAGS) -fsanitize=address $(SANE)' unit-built

ubsan-built:
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/ubsan' \
	  CFLAGS='$(CFLAGS) -fsanitize=undefined $(SANE)' unit-built

fuzz-built:
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/fuzz' CC=clang \
	  CFLAGS='$(CFLAGS) -fsanitize=fuzzer-no-link,address,undefined $(SANE)' fuzzers

fuzzers: $(FUZZ)

musl-built: $(BUILD)/tests/support/ident_server_musl
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/musl' CC='$(MUSL_CC)' all

# A command whose keeper can be killed at a point of its source (shim/keeper/fault.h).
fault-built:
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/fault' CPPFLAGS='$(CPPFLAGS) -DSOCKSHARD_FAULTS' \
	  $(BUILD)/fault/sockshard

$(BUILD)/tests/support/ident_server_musl: tests/support/ident_server.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(MUSL_CC) -std=gnu11 -O1 -g $(WARN) -D_GNU_SOURCE -o $@ $<

$(BUILD)/libtest.a: $(call obj,$(TEST_LIB))
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(UNIT): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/libtest.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) -o $@ $^ $(CFLAGS) $(LDFLAGS) -lcmocka -ldl -pthread

$(FUZZ): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/libtest.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) -o $@ $^ -fsanitize=fuzzer $(CFLAGS) $(LDFLAGS) -ldl -pthread

# Servers that know nothing of us. lib_*.c are libraries preloaded beside ours.
$(HELPERS): $(BUILD)/%: %.c
	@mkdir -p $(@D) $(dir $(BUILD)/obj/$*)
	$(call say,CC,$<)$(CC) -std=gnu11 -O1 -g $(WARN) -D_GNU_SOURCE -MMD -MP -MF $(BUILD)/obj/$*.d \
	  $(if $(filter lib_%,$(notdir $*)),-shared -fPIC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< \
	  -ldl -pthread

.PHONY: deps deps-demo check unit check-asan check-ubsan fuzz-short unit-built helpers asan-built \
        ubsan-built fuzz-built fuzzers musl-built fault-built
# --- tests end

# --- chaos begin
# The long form of tests/chaos, and the keeper killed at each of its points; a table at the end.
chaos: deps
	@$(MAKE) --no-print-directory $(JOBS) all helpers fault-built
	@CHAOS=long BUILD='$(BUILD)' tests/run chaos/ faults.py; status=$$?; \
	  tests/chaos/figures '$(BUILD)'/test-output; exit $$status

# The long form of the fork servers' tests, with what each of them printed.
forks: deps
	@$(MAKE) --no-print-directory $(JOBS) all helpers
	@CHAOS=long JOBS=1 BUILD='$(BUILD)' tests/run servers/workers.py servers/reload.py servers/inherited.py; status=$$?; \
	  tail -n +1 '$(BUILD)'/test-output/*.log; exit $$status

.PHONY: chaos forks
# --- chaos end

# --- bench begin
# What sockshard costs, beside the same without it. Prints a table; nothing here passes or fails.
BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c))

bench-short: all $(BENCH) $(BUILD)/tests/chaos/client
	@BUILD='$(abspath $(BUILD))' tests/bench/run

bench: all $(BENCH) $(BUILD)/tests/chaos/client
	@BUILD='$(abspath $(BUILD))' tests/bench/run --long

bench-uneven: all $(BUILD)/tests/chaos/client
	@BUILD='$(abspath $(BUILD))' tests/bench/run uneven

$(BENCH): $(BUILD)/%: %.c $(wildcard tests/bench/*.h)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE \
	  $(if $(filter lib_%,$(notdir $*)),-shared -fPIC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

.PHONY: bench bench-short bench-uneven
# --- bench end

.PHONY: all clean
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
