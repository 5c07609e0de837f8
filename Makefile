# sockshard. `make` builds, `make demo` shows, `make check` tests; V=1 shows the commands.
# User flags (CFLAGS, CPPFLAGS, LDFLAGS) come last.

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
libdir  ?= $(prefix)/lib/sockshard
mandir  ?= $(prefix)/share/man
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
CLIENT := shim/keeper/wire.c shim/keeper/client.c shim/keeper/spawn.c
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

.PHONY: all clean
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
