/* What tests ask of the library's internals, and every test may call. */
#ifndef INSIDE_H
#define INSIDE_H

#ifndef TEST_INSIDE
#define TEST_INSIDE static inline
#endif

/* The next path after `simd` that this machine can run. */
TEST_INSIDE msae_simd test_next_path(msae_simd simd) {
    do {
        simd = (msae_simd)(simd + 1);
    } while (simd < MSAE_SIMD_COUNT && !msae__simd_available(simd));
    return simd;
}

/* The geometric median [d] of the rows of a source. */
TEST_INSIDE msae_status test_median(const msae_source *source, const float *mean, float scale,
                                    int skip_bad, const msae_collective *collective,
                                    const msae_allocator *allocator, float *median,
                                    msae_error *error) {
    msae__source_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.source = source;
    pass.collective = collective;
    pass.skip_bad = skip_bad || (source->data && source->data->skip_bad);
    return msae__pass_median(&pass, mean, scale, allocator, median, error);
}

#endif /* INSIDE_H */
