/* msae train on several machines: every process (rank) takes its share of each batch's rows, and
   the gradients meet in a sum over all ranks, so that each makes the same update.

       make mpi
       mpirun -np 4 --bind-to none build/msae-mpi train 'part-*.npy' -o MODEL --checkpoint RUN ..

   README.md beside this file says how to run it. The library knows nothing of MPI: what it asks
   for are the two sums of an msae_collective, and all else here is how a run ends. */
#define _GNU_SOURCE /* sched_getaffinity */
#define MSAE_IMPLEMENTATION
#include "../tool/tool.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sum runs in pieces, of which several are under way at once: Open MPI's large MPI_Iallreduce
   sends all and only then adds, pieces have it do both at a time. It also keeps counts within an
   int. */
enum { PIECE = 1 << 18, IN_FLIGHT = 8 };

/* When a rank has died, mpirun sends the others SIGCONT at once, SIGTERM a second later and SIGKILL
   soon after that, which may be too soon for a checkpoint. So one is made at SIGCONT already, which
   does no harm where it means something else. Whoever has then waited this many seconds and gets
   SIGTERM takes the others for dead. */
#define PATIENCE 0.3

typedef struct mpi_team {
    tool_team team;
    MPI_Comm world;
    FILE *errors; /* what this rank has to say at the end */
} mpi_team;

static volatile sig_atomic_t continued;

static void on_continue(int number) {
    continued = number;
}

/* Waits until all requests are done; 0 when they never will be. */
static int wait_for(MPI_Request *requests, int count) {
    double start = 0;
    for (unsigned turn = 1;; turn++) {
        int done = 0;
        if (MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) return 0;
        if (done) return 1;
        if (turn % 64 != 0) continue;
        sched_yield(); /* there may be more ranks than cores */
        if (start == 0) start = tool_seconds();
        if (continued != 0 && tool_seconds() - start > PATIENCE / 3) {
            continued = 0;
            tool_keep_steps();
        }
        if (tool_stop_signal() != 0 && tool_seconds() - start > PATIENCE) return 0;
    }
}

static int sum(mpi_team *team, void *values, size_t count, size_t size, MPI_Datatype type) {
    if (team->team.lost) return 0;
    for (size_t first = 0; first < count;) {
        MPI_Request requests[IN_FLIGHT];
        int under_way = 0;
        for (; under_way < IN_FLIGHT && first < count; under_way++) {
            const size_t left = count - first, piece = left < PIECE ? left : PIECE;
            if (MPI_Iallreduce(MPI_IN_PLACE, (char *)values + first * size, (int)piece, type,
                               MPI_SUM, team->world, &requests[under_way]) != MPI_SUCCESS) {
                team->team.lost = 1;
                return 0;
            }
            first += piece;
        }
        if (!wait_for(requests, under_way)) {
            team->team.lost = 1;
            return 0;
        }
    }
    return 1;
}

static int sum_floats(void *user, float *values, size_t count) {
    return sum(user, values, count, sizeof *values, MPI_FLOAT);
}

static int sum_doubles(void *user, double *values, size_t count) {
    return sum(user, values, count, sizeof *values, MPI_DOUBLE);
}

/* The cores of this machine, or those that mpirun has bound this rank to, shared with the ranks
   beside it. */
static size_t default_threads(MPI_Comm world) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    size_t cores = online > 0 ? (size_t)online : 1, bound = cores;
    MPI_Comm node;
    int ranks = 1;
    if (MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node) == MPI_SUCCESS) {
        MPI_Comm_size(node, &ranks);
        MPI_Comm_free(&node);
    }
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) bound = (size_t)CPU_COUNT(&set);
#endif
    cores /= (size_t)ranks;
    if (cores > bound) cores = bound;
    return cores > 0 ? cores : 1;
}

/* How long the sum of a step's gradients takes: the least of twenty. */
static int measure_sums(mpi_team *team, const char *count) {
    const size_t floats = strtoul(count, NULL, 10), ranks = team->team.collective.ranks;
    float *values = tool_alloc(floats, sizeof *values);
    double least = 1e30;
    if (floats == 0) return tool_fail("sums", "needs a number of floats");
    if (values == NULL) return tool_fail_memory();
    for (int round = 0; round < 20; round++) {
        double together = 1;
        sum_doubles(team, &together, 1);
        const double start = tool_seconds();
        sum_floats(team, values, floats);
        const double seconds = tool_seconds() - start;
        if (seconds < least) least = seconds;
    }
    printf("%zu floats over %zu ranks: %.2f ms\n", floats, ranks, 1000 * least);
    free(values);
    return team->team.lost ? TOOL_FAILED : TOOL_OK;
}

static int run(mpi_team *team, int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "train") == 0) {
        return tool_train_over(&team->team, argc - 2, argv + 2);
    }
    if (argc > 2 && strcmp(argv[1], "sums") == 0) return measure_sums(team, argv[2]);
    if (argc > 1 && tool_is_help(argv[1])) {
        puts("mpirun -np N msae-mpi train ARGUMENTS .. [OPTION ..]\n\n"
             "Trains as msae train does, over N processes; train --help lists the options.\n"
             "msae-mpi sums COUNT measures how long a sum of so many floats takes.");
        return TOOL_OK;
    }
    tool_fail(NULL, "msae-mpi has the commands train and sums (see msae-mpi --help)");
    return TOOL_USAGE;
}

/* The lines of the first rank that has an error, else of the first that has any: where all found the
   same, it is said once. */
static void print_errors(mpi_team *team) {
    const size_t rank = team->team.collective.rank, ranks = team->team.collective.ranks;
    long length = ftell(team->errors);
    double has[MSAE_MAX_RANKS] = {0};
    size_t first = 0;
    int c;
    if (!team->team.lost) {
        has[rank] = tool_has_failed() ? 2 : length > 0;
        if (sum_doubles(team, has, ranks)) {
            for (size_t i = 1; i < ranks; i++) first = has[i] > has[first] ? i : first;
        }
    }
    if ((rank != first || has[first] == 0) && !team->team.lost) return;
    rewind(team->errors);
    while (length-- > 0 && (c = getc(team->errors)) != EOF) putc(c, stderr);
    fflush(stderr);
}

int main(int argc, char **argv) {
    mpi_team team;
    int provided, rank, ranks, status;
    memset(&team, 0, sizeof team);
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) return 1;
    MPI_Comm_dup(MPI_COMM_WORLD, &team.world);
    MPI_Comm_set_errhandler(team.world, MPI_ERRORS_RETURN); /* a run ends in its own words */
    MPI_Comm_rank(team.world, &rank);
    MPI_Comm_size(team.world, &ranks);
    team.team.collective.sum_floats = sum_floats;
    team.team.collective.sum_doubles = sum_doubles;
    team.team.collective.user = &team;
    team.team.collective.rank = (size_t)rank;
    team.team.collective.ranks = (size_t)ranks;
    team.team.threads = default_threads(team.world);
    team.errors = tmpfile();
    if (ranks > MSAE_MAX_RANKS || team.errors == NULL) {
        if (rank == 0)
            fprintf(stderr, "msae: more than %d ranks, or no temporary file\n", MSAE_MAX_RANKS);
        MPI_Finalize();
        return TOOL_FAILED;
    }
    signal(SIGCONT, on_continue);
    tool_errors_to(team.errors);
    if (rank != 0 && freopen("/dev/null", "w", stdout) == NULL) return TOOL_FAILED; /* --help */
    status = run(&team, argc, argv);
    if (fflush(stdout) != 0 && status == TOOL_OK)
        status = tool_fail("standard output", "could not be written");
    print_errors(&team);
    if (team.team.lost) _exit(status); /* MPI_Finalize would wait for the one that is gone */
    MPI_Finalize();
    return status;
}
