/* The tool's files of sparse codes, read for a model and decoded. The first byte of the input says
   which model: an even one stands for the plain one, an odd one for the one that normalizes.
   Options: -max_len=768
   Dictionaries: safetensors codes */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/options.c"
#include "../../examples/tool/files.c"
#include "../../examples/tool/codes.c"

/* Only the commands load models, and no input runs those. */
int tool_load_model(msae_model *model, const char *path, const msae_load_desc *desc) {
    memset(model, 0, sizeof *model);
    (void)desc;
    return tool_fail(path, "is not read here");
}

enum { INPUTS = 3, LATENTS = 5 };

static const msae_model *model_of(int normalize) {
    static msae_model models[2];
    msae_model *model = &models[normalize];
    if (!model->memory) {
        msae_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.n_inputs = INPUTS;
        desc.n_latents = LATENTS;
        desc.normalize = normalize;
        CHECK(msae_model_init(model, &desc, NULL) == MSAE_OK);
    }
    return model;
}

/* Every row, with room for exactly the longest. */
static void decode_all(decode_job *job) {
    CHECK(job->codes.rows > 0);
    for (size_t r = 0; r < job->codes.rows; r++) {
        const int64_t first = read_i64(job->codes.indptr, r),
                      end = read_i64(job->codes.indptr, r + 1);
        CHECK(first >= 0 && first <= end && (uint64_t)end <= job->codes.entries);
        if ((size_t)(end - first) > job->longest) job->longest = (size_t)(end - first);
    }
    job->scratch = (msae_code *)fuzz_take(job->longest * sizeof *job->scratch);
    job->out = (float *)fuzz_take(job->codes.rows * INPUTS * sizeof *job->out);
    for (size_t r = 0; r < job->codes.rows; r++) decode_row(job, r, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    decode_job job;
    msae_safetensors file;
    fuzz_file bytes;
    if (size == 0) return 0;
    bytes = fuzz_file_of(input + 1, size - 1, FUZZ_SAFETENSORS);
    memset(&job, 0, sizeof job);
    job.inputs.model = *model_of(input[0] & 1);
    job.codes_path = "codes.safetensors";
    if (msae_safetensors_open(&file, bytes.bytes, bytes.size, NULL, NULL) == MSAE_OK) {
        const int status = open_codes_for(&job, &file);
        CHECK(status == TOOL_OK || status == TOOL_FAILED);
        if (status == TOOL_OK) {
            CHECK(tool_is_codes(&file));
            decode_all(&job);
        }
        msae_safetensors_close(&file);
    }
    fuzz_release();
    return 0;
}
