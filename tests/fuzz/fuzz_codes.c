/* The tool's files of sparse codes, read for a model and decoded. The first byte of the input says
   which model: an even one stands for the plain one, an odd one for the one that normalizes.
   Options: -max_len=768
   Dictionaries: safetensors codes */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/files.c"
#include "../../examples/tool/places.c"
#include "../../examples/tool/rows.c"
#include "../../examples/tool/outcome.c"
#include "../../examples/tool/statistics.c"
#include "../../examples/tool/inflate.c"
#include "../../examples/tool/zip.c"
#include "../../examples/tool/torch.c"
#include "../../examples/tool/matrix.c"
#include "../../examples/tool/decode.c"

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

/* Block by block, as the command does but for the file it writes. */
static void decode_all(decode_job *job) {
    CHECK(job->codes.rows > 0);
    job->moments = (float *)fuzz_take(BLOCK_ROWS * 2 * sizeof *job->moments);
    job->out = (float *)fuzz_take(BLOCK_ROWS * INPUTS * sizeof *job->out);
    for (uint64_t first = 0; first < job->codes.rows; first += job->rows) {
        if (read_rows_of_codes(job, first) != TOOL_OK || check_block(job) != TOOL_OK) break;
        CHECK(job->rows > 0 && job->rows <= job->codes.rows - first);
        for (size_t r = 0; r < job->rows; r++) decode_row(job, r, 0);
    }
    free(job->entries);
    free(job->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    decode_job job;
    msae_safetensors file;
    msae_reader reader;
    fuzz_file bytes;
    if (size == 0) return 0;
    bytes = fuzz_file_of(input + 1, size - 1, FUZZ_SAFETENSORS);
    memset(&job, 0, sizeof job);
    job.inputs.model = *model_of(input[0] & 1);
    job.inputs.stored = job.inputs.model;
    job.model_path = "model.safetensors";
    job.codes_path = "codes.safetensors";
    reader = msae_from_memory(bytes.bytes, bytes.size);
    reader.memory = NULL; /* as of any other source */
    if (msae_safetensors_open(&file, reader, NULL, NULL) == MSAE_OK) {
        const int status = open_codes_for(&job, &file, &reader);
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
