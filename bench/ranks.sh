#!/bin/sh
# From what a step of one rank takes to the number of ranks at which a network stops paying.
#
#     sh bench/ranks.sh LATENTS INPUTS ROWS GRADIENTS_MS UPDATE_MS PHASE_MS [TIMES]
#
# The times are those of bench_step for ROWS rows: "gradients" and "update" of its first table, and
# PHASE_MS the phase "gradients" of its second. TIMES: what a rank is faster than the machine that
# they were measured on (1).
[ $# -ge 6 ] || { sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 2; }
awk -v n="$1" -v d="$2" -v rows="$3" -v gradients="$4" -v update="$5" -v phase="$6" \
    -v times="${7:-1}" '
# Seconds of a step over N ranks of b rows each: a ring sends 2 (N - 1) / N of the array over each
# link, in 2 (N - 1) messages.
function step(N, b) {
    return u + c * b + 2 * (N - 1) / N * S / W + 2 * (N - 1) * L
}
function least(a, b) { return a < b ? a : b }
function most(a, b) { return a > b ? a : b }
function shown(N) { return N < 1024 ? N : ">1023" }
BEGIN {
    c = gradients / rows / 1000 / times
    u = update / 1000 / times
    S = 4 * (2 * n * d + d + 2 * n) # gradients, and how often each latent was active
    L = 25e-6
    B = 4096
    tile_rows = least(256, most(16, 1048576 / n)) # of the last tile, behind which sums could hide
    tile = phase / rows * tile_rows / 1000 / times
    printf "n %d, d %d, ranks %g times as fast: %.1f MB and %.1f ms + %.3f ms a row for a step\n", \
        n, d, times, S / 1e6, 1000 * u, 1000 * c
    print "         4096 rows in all                                        4096 rows a rank"
    print "Gbit/s   shorter to  half to  its step, ms  speedup  hidden, %        half to"
    split("1 25 200", speeds, " ")
    for (i = 1; i <= 3; i++) {
        W = speeds[i] * 1e9 / 8
        for (N = 1; N < 1024 && step(N + 1, B / (N + 1)) < step(N, B / N); N++);
        shorter = shown(N)
        for (N = 1; N < 1024 && step(1, B) / (N + 1) / step(N + 1, B / (N + 1)) >= 0.5; N++);
        time = step(N, B / N)
        hidden = least(2 * (N - 1) / N * S / W, tile * least(1, B / N / tile_rows)) / time
        half = shown(N)
        for (M = 1; M < 1024 && step(1, B) / step(M + 1, B) >= 0.5; M++);
        printf "%6d   %10s  %7s  %12.0f  %7.1f  %9.0f  %13s\n", speeds[i], shorter, half, \
            1000 * time, step(1, B) / time, 100 * hidden, shown(M)
    }
}'
