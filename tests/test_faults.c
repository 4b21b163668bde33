/* Memory that runs out: every operation with its first, second, third .. allocation failing, alone
   and with all that follow, until the operation gets through. Each time there is a status, and not
   a byte is held afterwards. */
#include "test.h"

enum { D = 5, N = 12, ROWS = 14 };

/* What the operations work on, made once. */
static struct world {
    float x[ROWS * D];
    msae_data data;
    msae_train_desc desc;
    unsigned char *file; /* a saved model */
    size_t file_bytes;
    char model_path[128], data_path[128], arranged_path[128];
} world;

/* An operation takes all its memory from the heap, gives it back and says how it went. */
typedef msae_status operation(test_heap *heap);

static msae_train_desc desc_on(test_heap *heap) {
    msae_train_desc desc = world.desc;
    desc.model.host.allocator = test_heap_allocator(heap);
    return desc;
}

static msae_status create_model(test_heap *heap) {
    msae_train_desc desc = desc_on(heap);
    msae_model model;
    msae_status status = msae_model_init(&model, &desc.model, NULL);
    msae_model_free(&model);
    return status;
}

static msae_status create_trainer(test_heap *heap) {
    msae_train_desc desc = desc_on(heap);
    msae_trainer trainer;
    msae_status status = msae_trainer_init(&trainer, &desc, NULL);
    msae_trainer_free(&trainer);
    return status;
}

static msae_status fit(test_heap *heap) {
    msae_train_desc desc = desc_on(heap);
    msae_trainer trainer;
    desc.geometric_median = 1;
    msae_status status = msae_trainer_init(&trainer, &desc, NULL);
    if (status == MSAE_OK) status = test_fit(&trainer, &world.data, NULL, NULL, NULL);
    msae_trainer_free(&trainer);
    return status;
}

static msae_status sample(test_heap *heap) {
    const msae_source source = msae_source_data(&world.data);
    msae_stream_desc desc;
    msae_stream stream;
    memset(&desc, 0, sizeof desc);
    desc.batch = 4;
    desc.allocator = test_heap_allocator(heap);
    msae_status status = msae_stream_init(&stream, &source, &desc, NULL, NULL);
    msae_stream_free(&stream);
    return status;
}

static msae_status open_stream(test_heap *heap) {
    const msae_source source = {ROWS, D, NULL, NULL, NULL};
    msae_stream_desc desc;
    msae_stream stream;
    memset(&desc, 0, sizeof desc);
    desc.batch = 4;
    desc.allocator = test_heap_allocator(heap);
    msae_status status = msae_stream_init(&stream, &source, &desc, NULL, NULL);
    msae_stream_free(&stream);
    return status;
}

static msae_status open_files(test_heap *heap) {
    const char *const paths[] = {world.data_path, world.model_path};
    msae_allocator allocator = test_heap_allocator(heap);
    msae_files files;
    msae_status status = msae_files_open(&files, paths, 2, "decoder", &allocator, NULL);
    CHECK(status != MSAE_OK || files.source.rows == ROWS + N);
    msae_files_close(&files);
    return status;
}

/* A run over a set of files in windows, with its statistics and the median. */
static msae_status fit_files(test_heap *heap) {
    const char *const paths[] = {world.data_path, world.data_path};
    msae_allocator allocator = test_heap_allocator(heap);
    msae_train_desc desc = desc_on(heap);
    msae_stream_desc stream;
    msae_trainer trainer;
    msae_files files;
    desc.geometric_median = 1;
    memset(&stream, 0, sizeof stream);
    memset(&trainer, 0, sizeof trainer);
    stream.block_rows = 2;
    stream.window_rows = 8;
    msae_status status = msae_files_open(&files, paths, 2, NULL, &allocator, NULL);
    if (status == MSAE_OK) status = msae_trainer_init(&trainer, &desc, NULL);
    if (status == MSAE_OK) {
        status = msae_trainer_fit(&trainer, &files.source, &stream, NULL, NULL, NULL);
    }
    msae_trainer_free(&trainer);
    msae_files_close(&files);
    return status;
}

static msae_status statistics(test_heap *heap) {
    msae_allocator allocator = test_heap_allocator(heap);
    float mean[D], median[D], scale;
    msae_status status =
        test_data_statistics(&world.data, MSAE_SCALING_RMS, 0, &allocator, mean, &scale, NULL);
    if (status != MSAE_OK) return status;
    return test_geometric_median(&world.data, mean, scale, 0, &allocator, median, NULL);
}

static msae_status load_memory(test_heap *heap) {
    msae_load_desc desc = {{MSAE_SIMD_AUTO, test_heap_allocator(heap), {NULL, NULL, 0}}, 0, 0};
    msae_model model;
    msae_status status =
        msae_load(&model, msae_from_memory(world.file, world.file_bytes), &desc, NULL);
    msae_model_free(&model);
    return status;
}

static msae_status load_file(test_heap *heap) {
    msae_load_desc desc = {{MSAE_SIMD_AUTO, test_heap_allocator(heap), {NULL, NULL, 0}}, 0, 0};
    msae_model model;
    msae_status status = msae_load_file(&model, world.model_path, &desc, NULL);
    msae_model_free(&model);
    return status;
}

static msae_status load_data(test_heap *heap) {
    msae_allocator allocator = test_heap_allocator(heap);
    msae_data data;
    msae_status status =
        msae_data_load(&data, msae_from_file(world.data_path), NULL, &allocator, NULL);
    msae_data_free(&data);
    return status;
}

/* Whose values are put in another order: from a file, which is read first, and from memory. */
static msae_status load_arranged(test_heap *heap) {
    static const char header[] = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }";
    msae_allocator allocator = test_heap_allocator(heap);
    unsigned char bytes[128 + 24] = "\x93NUMPY\1\0\x76";
    msae_data data;
    memset(bytes + 10, ' ', 118);
    memcpy(bytes + 10, header, sizeof header - 1);
    bytes[127] = '\n';
    msae_status status =
        msae_data_load(&data, msae_from_memory(bytes, sizeof bytes), NULL, &allocator, NULL);
    if (status == MSAE_OK) msae_data_free(&data);
    if (status != MSAE_OK) return status;
    FILE *file = fopen(world.arranged_path, "wb");
    CHECK(file != NULL && fwrite(bytes, sizeof bytes, 1, file) == 1 && fclose(file) == 0);
    status = msae_data_load(&data, msae_from_file(world.arranged_path), NULL, &allocator, NULL);
    if (status == MSAE_OK) msae_data_free(&data);
    return status;
}

static msae_status open_safetensors(test_heap *heap) {
    msae_allocator allocator = test_heap_allocator(heap);
    msae_safetensors file;
    msae_status status = msae_safetensors_open(
        &file, msae_from_memory(world.file, world.file_bytes), &allocator, NULL);
    if (status == MSAE_OK) msae_safetensors_close(&file);
    return status;
}

/* What needs a model: made before the count of allocations begins, and freed after. */
static msae_status with_model(test_heap *heap, msae_status (*use)(msae_model *model)) {
    msae_train_desc desc = desc_on(heap);
    msae_model model;
    size_t fail_at = heap->fail_at;
    heap->fail_at = 0;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL));
    heap->allocations = 0;
    heap->fail_at = fail_at;
    msae_status status = use(&model);
    msae_model_free(&model);
    return status;
}

static msae_status save_model(msae_model *model) {
    size_t bytes;
    msae_status status = msae_save_file(model, world.model_path, NULL);
    if (status != MSAE_OK) return status;
    msae_writer writer = msae_to_memory(NULL, 0);
    status = msae_save(model, &writer, NULL);
    bytes = writer.bytes;
    if (status != MSAE_OK) return status;
    void *buffer = test_alloc(bytes);
    writer = msae_to_memory(buffer, bytes);
    status = msae_save(model, &writer, NULL);
    free(buffer);
    return status;
}

static msae_status evaluate_model(msae_model *model) {
    msae_eval_desc desc;
    msae_metrics results[MSAE_MAX_LEVELS];
    memset(&desc, 0, sizeof desc);
    desc.cknna = 1;
    return msae_evaluate(model, &world.data, &desc, COUNT(results), results, NULL, NULL);
}

static msae_status name_model(msae_model *model) {
    msae_name names[N];
    return msae_name_latents(model, &world.data, NULL, names, NULL);
}

static msae_status measure_overlap(msae_model *model) {
    double overlap;
    return msae_decoder_overlap(model, 0, &overlap, NULL);
}

static msae_status score_model(msae_model *model) {
    const msae_source source = msae_source_data(&world.data);
    msae_score scores[N];
    return msae_score_latents(model, &source, NULL, scores, NULL, NULL);
}

static msae_status find_top_rows(msae_model *model) {
    msae_hit hits[N * 2];
    size_t counts[N];
    return test_top_rows(model, &world.data, 3, NULL, N, 2, hits, counts, NULL);
}

static msae_status find_nearest_rows(msae_model *model) {
    msae_hit hits[2];
    size_t counts[1];
    return msae_nearest_rows(model, &world.data, world.x, 1, 2, hits, counts, NULL);
}

static msae_status steer_model(msae_model *model) {
    const msae_edit edit = {3, MSAE_EDIT_SET, 1, 0};
    const msae_steer_desc desc = {&edit, 1, 3, 0};
    msae_change changes[N];
    float out[ROWS * D];
    return msae_steer(model, &world.data, &desc, out, NULL, changes, NULL);
}

static msae_status index_model(msae_model *model) {
    msae_load_desc desc = {{MSAE_SIMD_AUTO, model->allocator, {NULL, NULL, 0}}, 0, 0};
    msae_index index, loaded;
    size_t bytes;
    msae_status status = msae_index_build(&index, model, &world.data, 3, NULL);
    if (status != MSAE_OK) return status;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_index_save(&index, &writer, NULL));
    bytes = writer.bytes;
    void *file = test_alloc(bytes);
    writer = msae_to_memory(file, bytes);
    CHECK_STATUS(MSAE_OK, msae_index_save(&index, &writer, NULL));
    msae_index_free(&index);
    status = msae_index_load(&loaded, msae_from_memory(file, bytes), &desc, NULL);
    free(file);
    msae_index_free(&loaded);
    return status;
}

static msae_status find_tree(msae_model *model) {
    const msae_tree_desc desc = {2, 1, 0.1f, 1, 1.1f};
    msae_edge edges[N * 2];
    msae_index index;
    size_t count;
    msae_status status = msae_index_build(&index, model, &world.data, 3, NULL);
    if (status == MSAE_OK) status = msae_concept_tree(&index, &desc, edges, &count, NULL);
    msae_index_free(&index);
    return status;
}

static msae_status top(test_heap *heap) {
    return with_model(heap, find_top_rows);
}

static msae_status nearest(test_heap *heap) {
    return with_model(heap, find_nearest_rows);
}

static msae_status steer(test_heap *heap) {
    return with_model(heap, steer_model);
}

static msae_status index_rows(test_heap *heap) {
    return with_model(heap, index_model);
}

static msae_status tree(test_heap *heap) {
    return with_model(heap, find_tree);
}

static msae_status save(test_heap *heap) {
    return with_model(heap, save_model);
}

static msae_status evaluate(test_heap *heap) {
    return with_model(heap, evaluate_model);
}

static msae_status name(test_heap *heap) {
    return with_model(heap, name_model);
}

static msae_status score(test_heap *heap) {
    return with_model(heap, score_model);
}

static msae_status measure(test_heap *heap) {
    return with_model(heap, measure_overlap);
}

/* At least `needed` allocations are expected, or the sweep would have nothing to fail. */
static void sweep(operation *run, size_t needed) {
    for (int fail_on = 0; fail_on < 2; fail_on++) {
        test_heap heap;
        for (size_t at = 1;; at++) {
            memset(&heap, 0, sizeof heap);
            heap.fail_at = at;
            heap.fail_on = fail_on;
            test_note("allocation %zu%s", at, fail_on ? " and all after it" : "");
            msae_status status = run(&heap);
            CHECK(heap.bytes == 0);
            if (heap.allocations < at) {
                CHECK_STATUS(MSAE_OK, status);
                CHECK(at > needed);
                break;
            }
            if (!CHECK_STATUS(MSAE_ERROR_MEMORY, status)) break;
        }
    }
}

static void make_world(void) {
    FOR_EACH_RECIPE(recipe) {
        if (recipe->recipe == MSAE_RECIPE_JUMPRELU) world.desc = test_desc(recipe, D, N);
    }
    world.desc.batch = 4;
    world.desc.epochs = 1;
    uint64_t seed = 1;
    test_fill(&seed, world.x, ROWS * D, 1);
    world.data = msae_data_view(world.x, ROWS, D);
    msae_model model;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &world.desc.model, NULL));
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    world.file_bytes = writer.bytes;
    world.file = (unsigned char *)test_alloc(world.file_bytes);
    writer = msae_to_memory(world.file, world.file_bytes);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    CHECK_STATUS(MSAE_OK, msae_save_file(&model, world.model_path, NULL));
    writer = msae_to_file(world.data_path);
    CHECK_STATUS(MSAE_OK, msae_npy_write(&writer, world.x, ROWS, D, NULL));
    msae_model_free(&model);
}

#define SWEEP(operation, needed) (test_begin(#operation), sweep(operation, needed), test_end())

int main(void) {
    const char *folder = test_folder();
    snprintf(world.model_path, sizeof world.model_path, "%s/model.safetensors", folder);
    snprintf(world.data_path, sizeof world.data_path, "%s/data.npy", folder);
    snprintf(world.arranged_path, sizeof world.arranged_path, "%s/arranged.npy", folder);
    RUN(make_world);
    SWEEP(create_model, 1);
    SWEEP(create_trainer, 1);
    SWEEP(fit, 2);
    SWEEP(sample, 1);
    SWEEP(open_stream, 1);
    SWEEP(open_files, 4);
    SWEEP(fit_files, 6);
    SWEEP(statistics, 2);
    SWEEP(load_memory, 2);
    SWEEP(load_file, 3);
    SWEEP(load_data, 1);
    SWEEP(load_arranged, 3);
    SWEEP(open_safetensors, 1);
    SWEEP(save, 0);
    SWEEP(evaluate, 1);
    SWEEP(name, 1);
    SWEEP(score, 1);
    SWEEP(measure, 1);
    SWEEP(top, 1);
    SWEEP(nearest, 1);
    SWEEP(steer, 1);
    SWEEP(index_rows, 5);
    SWEEP(tree, 4);
    remove(world.model_path);
    remove(world.data_path);
    remove(world.arranged_path);
    TEST_RMDIR(folder);
    free(world.file);
    return test_finish();
}
