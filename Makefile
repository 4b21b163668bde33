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
# Options of bench/torch_quality.py: --threads, --latents, --batch, --epochs, --tries, --seeds, --json.
QUALITY_FLAGS ?=
# What make recipes runs: claims, glove, shift, cost, rates, levers, sizes, stability, revival, again ..
GRIDS ?= claims glove shift cost
PYTHON ?= /usr/bin/python3
# For portability: full or quick (one of each kind).
LEVEL ?= full
# How often make kills ends a training run.
KILLS ?= 20
CXXFLAGS ?= $(CFLAGS)
# What make fuzz runs (names of tests/fuzz/fuzz_NAME.c), how often each, and with which clang.
TARGETS ?= $(FUZZ_TARGETS)
RUNS ?= 100000
FUZZ_CC ?= clang
# The compiler of make mpi, around CC.
MPICC ?= mpicc

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
EXAMPLES += $(BUILD)/engine/bake $(BUILD)/engine/engine
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAYS := $(FUZZ_TARGETS:%=$(BUILD)/fuzz/replay/%)
BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/bench_*.c))

# The C++ examples are left out where there is no C++ compiler.
ifneq ($(shell command -v $(firstword $(CXX)) 2>/dev/null),)
EXAMPLES += $(BUILD)/examples/cpp $(BUILD)/examples/cpp17
endif

.PHONY: all help demo test tests fuzz kills python-test golden portability coverage trust
.PHONY: web web-test benches bench bench-peers bench-quality recipes mpi mpi-test pocket footprint engine mobile
.PHONY: install uninstall clean
.DELETE_ON_ERROR:

all: $(BUILD)/msae $(EXAMPLES) ## the tool and the examples (default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

demo: $(BUILD)/msae ## trains on word vectors and shows the concepts found, in under a minute
	@sh examples/demo.sh $(BUILD)/msae $(BUILD)

web: $(BUILD)/msae ## a page about word vectors in BUILD/web (emscripten, or clang with wasi-libc)
	@sh examples/web/build.sh $(BUILD)/msae $(BUILD)/web

web-test: web ## drives that page in headless Chromium and compares it with the tool (node, chromium)
	@sh tests/web.sh $(BUILD)

# Compiling is most of the tests' time, so that it takes all cores unless -j says how many.
JOBS := $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))

test: ## builds and runs the tests
	@$(MAKE) --no-print-directory $(JOBS) all tests
	@sh tests/run.sh $(BUILD)

tests: $(TESTS) $(REPLAYS) $(BUILD)/fuzz/seeds.made ## builds the tests without running them

fuzz: $(TARGETS:%=$(BUILD)/fuzz/bin/%) $(BUILD)/fuzz/seeds.made ## runs the fuzz targets (TARGETS, RUNS) with clang
	@sh tests/fuzz/run.sh $(BUILD) $(RUNS) $(TARGETS)

golden: $(BUILD)/tests/test_golden ## compares with the vectors in the folder GOLDEN
	@$(BUILD)/tests/test_golden $(GOLDEN)

# Not optimised, so that every branch of the source is one of the program; counted atomically, as
# workers count at once. MSAE_ASSERT is nothing, as a program may have it: an assertion that failed
# would end the test, so its other branch cannot be counted. CXX is none: the C++ example is not run,
# and a call that may throw has branches of its own under the lines of the C programs.
COVERAGE := $(BUILD)/coverage
COVERAGE_FLAGS := -O0 -g --coverage -fprofile-update=atomic "-DMSAE_ASSERT(condition)=((void)0)"

coverage: ## lines and branches of msae.h that the tests reach (gcc, gcovr; some minutes)
	@command -v gcovr > /dev/null || { echo "coverage needs gcovr (apt install gcovr)"; exit 1; }
	@rm -rf $(COVERAGE)
	@$(MAKE) -s test BUILD=$(COVERAGE) CC=gcc CXX= CFLAGS='$(COVERAGE_FLAGS)'
	@mkdir $(COVERAGE)/html
	@gcovr --filter msae.h --object-directory $(COVERAGE) --print-summary \
	    --branches --txt $(COVERAGE)/branches.txt --html-details $(COVERAGE)/html/index.html \
	    $(COVERAGE) > $(COVERAGE)/summary.txt
	@echo
	@sed -n '/^lines\|^branches/p' $(COVERAGE)/summary.txt
	@echo "uncovered: $(COVERAGE)/branches.txt, $(COVERAGE)/html/index.html"

portability: ## every compiler, option, processor and system that can be had here; LEVEL=quick for some
	@BUILD=$(BUILD) bash tests/portability.sh $(LEVEL)

python-test: $(BUILD)/msae ## the Python examples against the tool (numpy; the export also torch and PIL)
	@sh tests/python.sh $(BUILD)/msae $(PYTHON)

kills: $(BUILD)/msae ## kills training KILLS times while it writes checkpoints, and resumes it
	@sh tests/kill.sh $(BUILD)/msae $(KILLS)

# About three hours on two cores; its parts can be run one by one.
trust: ## all that is measured of what can be trusted: test, portability, coverage, kills, fuzz
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory portability LEVEL=full
	@$(MAKE) --no-print-directory coverage
	@$(MAKE) --no-print-directory kills KILLS=500
	@$(MAKE) --no-print-directory fuzz RUNS=20000000

mpi: ## the tool's train over MPI, build/msae-mpi (needs an MPI, see examples/mpi/README.md)
	@command -v $(firstword $(MPICC)) > /dev/null || \
	    { echo "make mpi needs $(firstword $(MPICC)) (Debian: openmpi-bin libopenmpi-dev)"; exit 1; }
	@$(MAKE) --no-print-directory $(BUILD)/msae-mpi

mpi-test: $(BUILD)/msae $(BUILD)/tests/mpi_files mpi ## trains over two and three processes, and kills them
	@sh tests/mpi.sh $(BUILD)

pocket: $(BUILD)/msae_run.h ## the run part as a header of its own, BUILD/msae_run.h

$(BUILD)/msae_run.h: msae.h tests/pocket.sh
	@mkdir -p $(@D)
	@sh tests/pocket.sh > $@

footprint: $(BUILD)/tests/test_inference $(BUILD)/tests/test_stack pocket ## what inference alone takes: bytes, stack, compile time
	@bash tests/footprint.sh $(BUILD)

engine: $(BUILD)/engine/engine $(BUILD)/engine/concepts.safetensors ## a frame loop that encodes in slices, on its own arena and jobs
	@$(BUILD)/engine/engine $(BUILD)/engine

$(BUILD)/engine/concepts.safetensors: $(BUILD)/engine/bake
	$(BUILD)/engine/bake $(BUILD)/engine

mobile: ## compiles examples/mobile for Android and iOS as far as the compilers here can
	@sh examples/mobile/build.sh $(BUILD)/mobile

benches: $(BENCHES) $(BUILD)/bench/recipes ## builds the benchmarks without running them

bench: $(BENCHES) ## measures products, selection, steps, encoding, loading and memory
	@$(BUILD)/bench/bench_machine $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_gemm $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_topk $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_step $(if $(BENCH_DATA),--data $(BENCH_DATA)) $(BENCH_FLAGS)
	@$(BUILD)/bench/bench_model $(BENCH_FLAGS)

bench-peers: $(BENCHES) $(BUILD)/msae ## the same training in plain PyTorch, in turns with ours
	@$(PYTHON) bench/torch_peer.py $(BUILD)/bench $(if $(BENCH_DATA),--data $(BENCH_DATA)) $(BENCH_FLAGS)
	@$(if $(BENCH_DATA),$(PYTHON) bench/torch_schedule.py $(BUILD)/msae $(BENCH_DATA) $(filter --json,$(BENCH_FLAGS)))

bench-quality: $(BENCHES) $(BUILD)/msae ## seconds until the published quality, beside plain PyTorch (ten minutes)
	@$(PYTHON) bench/torch_quality.py $(BUILD) $(or $(BENCH_DATA),examples/data/glove_f16.npy) $(QUALITY_FLAGS)

recipes: $(BUILD)/bench/recipes ## trains recipes and compares them on rows that none has seen (under an hour)
	@sh bench/recipes/run.sh $(BUILD) $(GRIDS)

$(BUILD)/msae: examples/msae.c $(TOOL_PARTS) examples/tool/tool.h msae.h
	$(C99) -o $@ examples/msae.c $(TOOL_PARTS) $(LDFLAGS) $(LIBS)

$(BUILD)/msae-mpi: examples/mpi/msae_mpi.c $(TOOL_PARTS) examples/tool/tool.h msae.h
	OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) -std=c99 -I. $(CFLAGS) -o $@ $< $(TOOL_PARTS) $(LDFLAGS) $(LIBS)

$(BUILD)/tool/%.o: examples/tool/%.c $(wildcard examples/tool/*.h) msae.h
	@mkdir -p $(@D)
	$(C99) -c -o $@ $<

$(BUILD)/examples/cpp: examples/cpp.cpp msae.h
	@mkdir -p $(@D)
	$(CXX) -std=c++11 -I. $(CXXFLAGS) -o $@ $< $(LDFLAGS) $(LIBS)

$(BUILD)/examples/cpp17: examples/cpp17.cpp msae.h
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -I. $(CXXFLAGS) -o $@ $< $(LDFLAGS) $(LIBS)

$(BUILD)/engine/%: examples/engine/%.c msae.h
	@mkdir -p $(@D)
	$(C99) -o $@ $< $(LDFLAGS) $(LIBS)

$(BUILD)/examples/%: examples/%.c msae.h
	@mkdir -p $(@D)
	$(C99) -o $@ $< $(LDFLAGS) $(LIBS)

# The tests of two static copies are programs of two sources.
$(BUILD)/tests/test_copies: tests/copies_other.c
$(BUILD)/tests/test_inference: tests/inference_pocket.c
# These take in sources of the tool and of an example.
AUDITS := alignment attributes audit bytes linear_probe
AUDITED := probe bias analysis golden skipped arguments threads
$(AUDITED:%=$(BUILD)/tests/test_%): $(wildcard $(AUDITS:%=examples/tool/%.[ch]))
$(BUILD)/tests/test_torch $(BUILD)/tests/test_zips $(BUILD)/tests/test_layouts: $(wildcard examples/tool/*)
$(BUILD)/tests/test_by_hand: examples/by_hand.c
# These look at no internals: one copy of the library serves all of them.
LINKED := bias by_hand checkpoints faults gradients locale matrices naming probe refine scores topk torch zips
LINKED := $(LINKED:%=$(BUILD)/tests/test_%)
$(LINKED): $(BUILD)/tests/linked.o
$(LINKED) $(BUILD)/tests/linked.o: C99 += -DTEST_LINKED

$(BUILD)/tests/linked.o: tests/linked.c tests/test.h tests/inside.h msae.h
	@mkdir -p $(@D)
	$(C99) -Itests -c -o $@ $<

$(BUILD)/tests/%: tests/%.c $(wildcard tests/*.h) msae.h
	@mkdir -p $(@D)
	$(C99) -Itests -o $@ $(filter tests/%.c %.o,$^) $(LDFLAGS) $(LIBS)

# Each fuzz target is built twice: with a fuzzer, and with a main that replays its seeds. Those of
# the tool take in the tool's sources.
FUZZ_PARTS := $(wildcard tests/fuzz/*.h tests/fuzz/*.txt examples/tool/*) msae.h

$(BUILD)/fuzz/replay/%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(C99) -O0 -o $@ $< tests/fuzz/replay.c $(LDFLAGS) $(LIBS) # compiling is most of a replay

FUZZ_FLAGS := -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -fsanitize-coverage-ignorelist=tests/fuzz/uncounted.txt

# Where the input is numbers, or makes a file, tracing comparisons takes half of the time and leads
# nowhere.
FUZZ_UNTRACED := $(addprefix $(BUILD)/fuzz/bin/,kernels topk model checkpoint)
$(FUZZ_UNTRACED): FUZZ_FLAGS += -fno-sanitize-coverage=trace-cmp

$(BUILD)/fuzz/bin/%: tests/fuzz/fuzz_%.c $(FUZZ_PARTS) | $(BUILD)/fuzz/has-fuzzer
	@mkdir -p $(@D)
	$(FUZZ_CC) -I. $(FUZZ_FLAGS) -o $@ $< $(LIBS)

$(BUILD)/fuzz/has-fuzzer:
	@mkdir -p $(@D)
	@echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	    $(FUZZ_CC) $(FUZZ_FLAGS) -x c -o $@ - || \
	    { echo "make fuzz needs clang with libFuzzer and its sanitizers (FUZZ_CC is $(FUZZ_CC))"; exit 1; }

$(BUILD)/fuzz/seeds.made: tests/fuzz/seeds.c
	@mkdir -p $(@D)
	$(C99) -o $(BUILD)/fuzz/seeds.tool $< $(LDFLAGS)
	rm -rf $(BUILD)/fuzz/seeds
	$(BUILD)/fuzz/seeds.tool $(BUILD)/fuzz/seeds
	@touch $@

$(BUILD)/bench/recipes: bench/recipes/recipes.c $(wildcard bench/recipes/*.h) bench/bench.h msae.h \
    $(wildcard $(AUDITS:%=examples/tool/%.[ch]))
	@mkdir -p $(@D)
	$(C99) -o $@ $< $(LDFLAGS) $(LIBS) -ldl

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
