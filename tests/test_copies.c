/* Two copies of the library, each static in its own file, in one program; copies_other.c has the
   second. A model knows all that its copy needs, so that either can use the other's. */
#include "test.h"

msae_status other_copy_init(msae_model *model, const msae_model_desc *desc);
msae_status other_copy_encode(const msae_model *model, void *workspace, const float *x, size_t room,
                              msae_code *codes, size_t *count);

static void copies_agree(void) {
    enum { D = 6, N = 30, K = 8 };
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    msae_model ours, theirs;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&ours, &desc.model, NULL))) return;
    if (!CHECK_STATUS(MSAE_OK, other_copy_init(&theirs, &desc.model))) return;
    CHECK(test_same(ours.encoder, theirs.encoder, N * D));
    float *x = test_random_floats(1, D, 1);
    void *workspace = test_alloc(msae_workspace_bytes(&ours, 1));
    msae_code by_us[K], by_them[K];
    size_t count = 0, counted = 0;
    CHECK_STATUS(MSAE_OK, msae_encode(&theirs, workspace, x, K, by_us, &count));
    CHECK_STATUS(MSAE_OK, other_copy_encode(&ours, workspace, x, K, by_them, &counted));
    CHECK(count > 0 && counted == count);
    CHECK(memcmp(by_us, by_them, count * sizeof *by_us) == 0);
    msae_model_free(&ours);
    msae_model_free(&theirs);
    free(workspace);
    free(x);
}

int main(void) {
    RUN(copies_agree);
    return test_finish();
}
