# make help lists the targets. CC, CXX, CFLAGS, LDFLAGS, PREFIX, DESTDIR and BUILD (the output folder)
# can be set on the command line.

BUILD ?= build
PREFIX ?= /usr/local
GOLDEN ?= tests/golden
CFLAGS ?= -O2 -Wall -Wextra
# Rows for the benchmarks (without: random ones), their options (--json, --threads 1 ..), and a
# Python that has PyTorch.
BENCH_DATA ?= $(wildcard ../shared/clip/train_f16.npy)
BENCH_FLAGS ?=
PYTHON ?= /usr/bin/python3
# For portability: full or quick (one of each kind).
LEVEL ?= full
CXXFLAGS ?= $(CFLAGS)

# The C++ compiler that goes with the C compiler, unless one is named.
ifeq ($(origin CXX),default)
ifneq ($(filter %gcc,$(CC)),)
CXX := $(patsubst %gcc,%g++,$(CC))
else ifneq ($(findstring clang,$(CC)),)
CXX := $(subst clang,clang++,$(CC))
else
CXX := c++
endif
endif

VERSION := $(shell sed -n 's/^\#define MSAE_VERSION "\(.*\)"/\1/p' msae.h)
LIBS := -lm -lpthread
C99 = $(CC) -std=c99 -I. $(CFLAGS)

TOOL_PARTS := $(patsubst examples/tool/%.c,$(BUILD)/tool/%.o,$(wildcard examples/tool/*.c))
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/examples/%,$(filter-out examples/msae.c,$(wildcard examples/*.c)))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/bench_*.c))

# The one C++ example is left out where there is no C++ compiler.
ifneq ($(shell command -v $(firstword $(CXX)) 2>/dev/null),)
EXAMPLES += $(BUILD)/examples/cpp
endif

.PHONY: all help demo test tests golden portability benches bench bench-peers install uninstall clean
.DELETE_ON_ERROR:

all: $(BUILD)/msae $(EXAMPLES) ## the tool and the examples (default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

demo: $(BUILD)/msae ## trains on word vectors and shows the concepts found, in under a minute
	@sh examples/demo.sh $(BUILD)/msae $(BUILD)

test: all tests ## builds and runs the tests
	@sh tests/run.sh $(BUILD)

tests: $(TESTS) ## builds the tests without running them

golden: $(BUILD)/tests/test_golden ## compares with the vectors in the folder GOLDEN
	@$(BUILD)/tests/test_golden $(GOLDEN)

portability: ## every compiler, option, processor and system that can be had here; LEVEL=quick for some
	@BUILD=$(BUILD) bash tests/portability.sh $(LEVEL)

benches: $(BENCHES) ## builds the benchmarks without running them

bench: $(BENCHES) ## measures products, selection, steps, encoding, loading and memory
	@$(BUILD)/bench/bench_gemm $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_topk $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_step $(if $(BENCH_DATA),--data $(BENCH_DATA)) $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_model $(BENCH_FLAGS)

bench-peers: $(BENCHES) ## the same training in plain PyTorch, in turns with ours
	@$(PYTHON) bench/torch_peer.py $(BUILD)/bench $(if $(BENCH_DATA),--data $(BENCH_DATA)) $(BENCH_FLAGS)

$(BUILD)/msae: examples/msae.c $(TOOL_PARTS) examples/tool/tool.h msae.h
	$(C99) -o $@ examples/msae.c $(TOOL_PARTS) $(LDFLAGS) $(LIBS)

$(BUILD)/tool/%.o: examples/tool/%.c examples/tool/tool.h msae.h
	@mkdir -p $(@D)
	$(C99) -c -o $@ $<

$(BUILD)/examples/cpp: examples/cpp.cpp msae.h
	@mkdir -p $(@D)
	$(CXX) -std=c++11 -I. $(CXXFLAGS) -o $@ $< $(LDFLAGS) $(LIBS)

$(BUILD)/examples/%: examples/%.c msae.h
	@mkdir -p $(@D)
	$(C99) -o $@ $< $(LDFLAGS) $(LIBS)

# The test of two static copies is a program of two sources.
$(BUILD)/tests/test_copies: tests/copies_other.c
$(BUILD)/tests/%: tests/%.c $(wildcard tests/*.h) msae.h
	@mkdir -p $(@D)
	$(C99) -Itests -o $@ $(filter %.c,$^) $(LDFLAGS) $(LIBS)

$(BUILD)/bench/%: bench/%.c $(wildcard bench/*.h) msae.h
	@mkdir -p $(@D)
	$(C99) -o $@ $< $(LDFLAGS) $(LIBS) -ldl

install: $(BUILD)/msae ## header, tool and pkg-config file to PREFIX (and DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 msae.h $(DESTDIR)$(PREFIX)/include/msae.h
	install -m 755 $(BUILD)/msae $(DESTDIR)$(PREFIX)/bin/msae
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' '' 'Name: msae' \
	    'Description: Matryoshka sparse autoencoders in a single header' 'Version: $(VERSION)' \
	    'Cflags: -I$${includedir}' 'Libs: -lm' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/msae.pc

uninstall: ## takes away what install put there
	rm -f $(DESTDIR)$(PREFIX)/include/msae.h $(DESTDIR)$(PREFIX)/bin/msae \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig/msae.pc

clean: ## removes BUILD
	rm -rf $(BUILD)
