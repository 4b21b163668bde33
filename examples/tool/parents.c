/* The concept tree of a model as msae tree wrote it, and how it is shown. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------
   The file
   ------------------------------------------------------------------------------------------ */

enum { LATENT, PARENT, P, LIFT, ROWS_LATENT, ROWS_PARENT, MODEL, COLUMNS };

/* A line of the file on its way into the tree. */
typedef struct tree_line {
    size_t number; /* in the file */
    const char *cells[COLUMNS];
    int is_root;
    msae_edge edge;
} tree_line;

static int read_latent(const tool_parents *tree, const tree_line *line, int column,
                       uint32_t *latent) {
    const char *text = line->cells[column];
    uint64_t number;
    if (!tool_read_number(text, strlen(text), &number) || number >= tree->n_latents) {
        return tool_fail(tree->table.path, "line %zu: '%s' is not one of the model's %zu latents",
                         line->number, text, tree->n_latents);
    }
    *latent = (uint32_t)number;
    return TOOL_OK;
}

static int read_rows(const tool_parents *tree, const tree_line *line, int column, uint32_t *rows) {
    const char *text = line->cells[column];
    uint64_t number;
    if (!tool_read_number(text, strlen(text), &number) || number > UINT32_MAX) {
        return tool_fail(tree->table.path, "line %zu: '%s' is not a number of rows", line->number,
                         text);
    }
    *rows = (uint32_t)number;
    return TOOL_OK;
}

/* A number above 0, at most `most` (0: any). */
static int read_share(const tool_parents *tree, const tree_line *line, int column, double most,
                      float *share) {
    const char *text = line->cells[column];
    double value;
    if (!tool_read_real(text, strlen(text), &value) || value <= 0 || (most > 0 && value > most)) {
        return tool_fail(tree->table.path, "line %zu: '%s' is not a %s", line->number, text,
                         column == P ? "share of rows" : "lift");
    }
    *share = (float)value;
    return TOOL_OK;
}

/* All that a line can be held to by itself. */
static int read_line(const tool_parents *tree, tree_line *line) {
    const char **cells = line->cells;
    msae_edge *edge = &line->edge;
    memset(edge, 0, sizeof *edge);
    line->is_root = strcmp(cells[PARENT], "-1") == 0;
    int status = tool_check_checksum(tree->table.path, line->number, cells[MODEL], tree->model,
                                     tree->model_path, "make the tree again");
    if (status == TOOL_OK) status = read_latent(tree, line, LATENT, &edge->latent);
    if (status == TOOL_OK) status = read_rows(tree, line, ROWS_LATENT, &edge->rows_latent);
    if (status != TOOL_OK) return status;
    if (line->is_root) {
        if (*cells[P] == '\0' && *cells[LIFT] == '\0' && *cells[ROWS_PARENT] == '\0') {
            return TOOL_OK;
        }
        return tool_fail(tree->table.path, "line %zu: a root has no p, lift or rows_parent",
                         line->number);
    }
    status = read_latent(tree, line, PARENT, &edge->parent);
    if (status == TOOL_OK) status = read_share(tree, line, P, 1, &edge->p);
    if (status == TOOL_OK) status = read_share(tree, line, LIFT, 0, &edge->lift);
    if (status == TOOL_OK) status = read_rows(tree, line, ROWS_PARENT, &edge->rows_parent);
    if (status == TOOL_OK && edge->rows_parent <= edge->rows_latent) {
        return tool_fail(
            tree->table.path, "line %zu: the parent is on %lu rows, no more than the latent's %lu",
            line->number, (unsigned long)edge->rows_parent, (unsigned long)edge->rows_latent);
    }
    return status;
}

/* Adds what a line says; *next is the latent that comes next, of which no line was there. */
static int take_line(tool_parents *tree, const tree_line *line, size_t *next) {
    const msae_edge *edge = &line->edge;
    const char *path = tree->table.path;
    if (edge->latent > *next) {
        return tool_fail(path, "line %zu: latent %zu is missing", line->number, *next);
    }
    if (edge->latent < *next) {
        const size_t first = tree->starts[edge->latent];
        if ((size_t)edge->latent + 1 != *next || line->is_root || first == tree->count) {
            return tool_fail(path, "line %zu: latent %lu is there already", line->number,
                             (unsigned long)edge->latent);
        }
        if (tree->rows[edge->latent] != edge->rows_latent) {
            return tool_fail(path, "line %zu: latent %lu is on %lu rows here, on %lu above",
                             line->number, (unsigned long)edge->latent,
                             (unsigned long)edge->rows_latent,
                             (unsigned long)tree->rows[edge->latent]);
        }
        for (size_t i = first; i < tree->count; i++) {
            if (tree->edges[i].parent != edge->parent) continue;
            return tool_fail(path, "line %zu: latent %lu has the parent %lu already", line->number,
                             (unsigned long)edge->latent, (unsigned long)edge->parent);
        }
    } else {
        tree->rows[*next] = edge->rows_latent;
        tree->starts[(*next)++] = tree->count;
    }
    if (!line->is_root) tree->edges[tree->count++] = *edge;
    return TOOL_OK;
}

/* Every latent is there, and on as many rows where it is a parent. So there are no cycles. */
static int check_tree(const tool_parents *tree, size_t next) {
    if (next < tree->n_latents) {
        return tool_fail(tree->table.path, "latent %zu is missing: the file was cut off", next);
    }
    for (size_t i = 0; i < tree->count; i++) {
        const msae_edge *edge = &tree->edges[i];
        if (edge->rows_parent == tree->rows[edge->parent]) continue;
        return tool_fail(tree->table.path,
                         "latent %lu is on %lu rows as the parent of %lu, on %lu by itself",
                         (unsigned long)edge->parent, (unsigned long)edge->rows_parent,
                         (unsigned long)edge->latent, (unsigned long)tree->rows[edge->parent]);
    }
    return TOOL_OK;
}

/* Edges from tree->table. */
static int take_tree(tool_parents *tree) {
    static const char *const titles[] = {"latent",      "parent",      "p",    "lift",
                                         "rows_latent", "rows_parent", "model"};
    const tool_table *table = &tree->table;
    size_t columns[COLUMNS], next = 0;
    int status = TOOL_OK;
    for (int i = 0; i < COLUMNS && status == TOOL_OK; i++) {
        status = tool_need_column(table, titles[i], &columns[i]);
    }
    if (status != TOOL_OK) return status;
    tree->edges = tool_alloc(table->rows, sizeof *tree->edges);
    tree->starts = tool_alloc(tree->n_latents + 1, sizeof *tree->starts);
    tree->rows = tool_alloc(tree->n_latents, sizeof *tree->rows);
    if (tree->edges == NULL || tree->starts == NULL || tree->rows == NULL) {
        return tool_fail_memory();
    }
    for (size_t r = 0; r < table->rows && status == TOOL_OK; r++) {
        tree_line line = {.number = r + 2};
        for (int i = 0; i < COLUMNS; i++) {
            line.cells[i] = table->cells[r * table->columns + columns[i]];
        }
        status = read_line(tree, &line);
        if (status == TOOL_OK) status = take_line(tree, &line, &next);
    }
    if (status == TOOL_OK) status = check_tree(tree, next);
    tree->starts[tree->n_latents] = tree->count;
    return status;
}

int tool_load_parents(tool_parents *tree, const char *path, const msae_model *model,
                      const char *model_path) {
    memset(tree, 0, sizeof *tree);
    tree->n_latents = model->n_latents;
    tree->model_path = model_path;
    if (path == NULL) return TOOL_OK;
    tree->model = msae_model_checksum(model);
    int status = tool_load_table(&tree->table, path);
    return status == TOOL_OK ? take_tree(tree) : status;
}

void tool_free_parents(tool_parents *tree) {
    free(tree->edges);
    free(tree->starts);
    free(tree->rows);
    tool_free_table(&tree->table);
}

/* ---------------------------------------------------------------------------------------------
   What it says of a latent
   ------------------------------------------------------------------------------------------ */

const msae_edge *tool_parents_of(const tool_parents *tree, size_t latent, size_t *count) {
    *count = 0;
    if (tree->starts == NULL) return NULL;
    *count = tree->starts[latent + 1] - tree->starts[latent];
    return *count > 0 ? tree->edges + tree->starts[latent] : NULL;
}

void tool_json_edge(tool_json *json, const tool_names *names, const msae_edge *edge) {
    tool_json_begin(json, NULL, '{');
    tool_json_concept(json, names, edge->parent);
    tool_json_real(json, "p", (double)edge->p);
    tool_json_real(json, "lift", (double)edge->lift);
    tool_json_count(json, "rows", edge->rows_parent);
    tool_json_end(json, '}');
}

void tool_json_parents(tool_json *json, const tool_parents *tree, const tool_names *names,
                       size_t latent) {
    size_t count;
    const msae_edge *parents = tool_parents_of(tree, latent, &count);
    if (tree->starts == NULL) return;
    tool_json_begin(json, "parents", '[');
    for (size_t i = 0; i < count; i++) tool_json_edge(json, names, &parents[i]);
    tool_json_end(json, ']');
}

void tool_print_latent(const tool_names *names, size_t latent) {
    tool_short_name room;
    const char *name = tool_short_name_of(names, latent, &room);
    printf("%zu%s%s", latent, *name != '\0' ? " " : "", name);
}
