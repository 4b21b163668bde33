/* A grid's lines: a name, then key=value.

   Keys of the library: recipe, latents, nesting (a list; one number: where it starts), weights (a
   list), k, lr, batch, epochs, beta1, beta2, eps, clip, schedule, warmup, decay, start, revivals (0:
   none), loss, scale, median (1: geometric median).
   Levers that the library does not have (levers.h): power (weights k^-power), balance (1: weights
   are divided by the level's loss), random (1: k of each step at random within an octave), exact
   (1: decoder rows to exactly unit norm after each step), ema (decay of an average of the weights),
   auxk (dead latents that reconstruct the residual). Of revival.h: start_near (starts at the mean of
   so many rows near each other), revive (so many revivals in place of the library's), and how these
   differ: revive_until, revive_below, revive_most, revive_rows, revive_together, revive_level,
   revive_missed, revive_whole, revive_random, revive_length (struct revival_keys says what each is).
   For the outputs: refine (1: refined codes are measured too), seeds, plot (1: a line; 2: a point, at
   the line's k), align (1: seeds against each other). A key that is none of these ends the run. */

#define NOT_SET (-1.0)

typedef struct revival_keys {
    size_t revivals; /* in all; 0: the library's */
    double until;    /* share of the run after which there are none */
    double below;    /* dead: active on less than this share of the rows since the last revival */
    size_t most;     /* at most n / this at a time */
    size_t rows;     /* looked at for each dead latent */
    size_t together; /* bad rows whose mean direction a latent gets */
    size_t level;    /* latents a row at which a latent counts as active; 0: 64, as the library */
    size_t missed;   /* latents a row whose residual counts; 0: as `level` */
    int whole;       /* 1: the bad rows themselves, not their residuals */
    int random;      /* 1: any rows, not those that are reconstructed worst */
    double length;   /* of encoder rows, over the others' mean */
} revival_keys;

typedef struct levers {
    size_t nesting[MSAE_MAX_LEVELS];
    float weights[MSAE_MAX_LEVELS];
    double power, ema;
    int balance, random, exact;
    size_t auxk, start_near;
    revival_keys revival;
} levers;

static const char known_keys[] =
    " recipe latents nesting weights k lr batch epochs beta1 beta2 eps clip schedule warmup decay"
    " start revivals loss scale median power balance random exact ema auxk start_near revive"
    " revive_until revive_below revive_most revive_rows revive_together revive_level revive_missed"
    " revive_whole revive_random revive_length refine seeds plot align ";

static void check_keys(const grid_line *line) {
    for (const char *at = line->options; *(at += strspn(at, " ")) != '\0'; at += strcspn(at, " ")) {
        const int length = (int)strcspn(at, "= ");
        char key[LINE_BYTES + 2], text[LINE_BYTES + 32];
        snprintf(key, sizeof key, " %.*s ", length, at);
        snprintf(text, sizeof text, "has an unknown key: %.*s", length, at);
        if (at[length] != '=' || strstr(known_keys, key) == NULL) fail(line->name, text);
    }
}

/* The value of a key as text in `value` [LINE_BYTES]; 0 when the line has no such key. */
static int find_key(const grid_line *line, const char *key, char *value) {
    char pattern[64];
    const char *at;
    snprintf(pattern, sizeof pattern, " %s=", key);
    at = strstr(line->options, pattern);
    if (!at) return 0;
    at += strlen(pattern);
    snprintf(value, LINE_BYTES, "%.*s", (int)strcspn(at, " "), at);
    return 1;
}

static double key_number(const grid_line *line, const char *key, double otherwise) {
    char value[LINE_BYTES];
    return find_key(line, key, value) ? strtod(value, NULL) : otherwise;
}

/* Zero is a value here, and MSAE_OFF to the library. */
static float key_float(const grid_line *line, const char *key) {
    const double value = key_number(line, key, NOT_SET);
    return value == NOT_SET ? 0 : value == 0 ? MSAE_OFF : (float)value;
}

static size_t key_list(const grid_line *line, const char *key, double *values) {
    char text[LINE_BYTES], *at = text;
    size_t count = 0;
    if (!find_key(line, key, text)) return 0;
    while (*at && count < MSAE_MAX_LEVELS) {
        values[count++] = strtod(at, &at);
        at += *at == ',';
    }
    return count;
}

/* The value of an enum that a key names; 0, the default, when the line has no such key. */
static int key_enum(const grid_line *line, const char *key, msae_enum kind) {
    char value[LINE_BYTES], text[64];
    int found;
    if (!find_key(line, key, value)) return 0;
    found = msae_enum_value(kind, value);
    snprintf(text, sizeof text, "has an unknown value of %s", key);
    if (found <= 0) fail(line->name, text);
    return found;
}

static void read_revival_keys(const grid_line *line, revival_keys *keys) {
    keys->revivals = (size_t)key_number(line, "revive", 0);
    keys->until = key_number(line, "revive_until", 0.6);
    keys->below = key_number(line, "revive_below", 0);
    keys->most = (size_t)key_number(line, "revive_most", 32);
    keys->rows = (size_t)key_number(line, "revive_rows", 16);
    keys->together = (size_t)key_number(line, "revive_together", 1);
    keys->level = (size_t)key_number(line, "revive_level", 0);
    keys->missed = (size_t)key_number(line, "revive_missed", 0);
    keys->whole = (int)key_number(line, "revive_whole", 0);
    keys->random = (int)key_number(line, "revive_random", 0);
    keys->length = key_number(line, "revive_length", 0.5);
    if (keys->most == 0 || keys->together == 0 || keys->rows < keys->together) {
        fail(line->name, "revive_most and revive_together are at least 1, revive_rows as many");
    }
}

static void read_keys(const grid_line *line, msae_train_desc *desc, levers *l) {
    double nesting[MSAE_MAX_LEVELS], weights[MSAE_MAX_LEVELS], revivals;
    const size_t n_nesting = key_list(line, "nesting", nesting);
    const size_t n_weights = key_list(line, "weights", weights);
    for (size_t i = 0; i < n_nesting; i++) l->nesting[i] = (size_t)nesting[i];
    for (size_t i = 0; i < n_weights; i++) l->weights[i] = (float)weights[i];
    if (n_nesting == 1) desc->model.nesting_start = l->nesting[0];
    if (n_nesting > 1) {
        desc->model.nesting = l->nesting;
        desc->model.n_levels = n_nesting;
    }
    if (n_weights > 0) {
        desc->model.level_weights = l->weights;
        desc->model.n_level_weights = n_weights;
    }
    desc->model.recipe = (msae_recipe)key_enum(line, "recipe", MSAE_ENUM_RECIPE);
    desc->schedule = (msae_schedule)key_enum(line, "schedule", MSAE_ENUM_SCHEDULE);
    desc->start = (msae_start)key_enum(line, "start", MSAE_ENUM_START);
    desc->loss = (msae_loss)key_enum(line, "loss", MSAE_ENUM_LOSS);
    desc->scaling = (msae_scaling)key_enum(line, "scale", MSAE_ENUM_SCALING);
    desc->model.n_latents = (size_t)key_number(line, "latents", (double)desc->model.n_latents);
    desc->model.k = (size_t)key_number(line, "k", 0);
    desc->batch = (size_t)key_number(line, "batch", (double)desc->batch);
    desc->epochs = (size_t)key_number(line, "epochs", (double)desc->epochs);
    desc->lr = (float)key_number(line, "lr", 0);
    desc->beta1 = key_float(line, "beta1");
    desc->beta2 = key_float(line, "beta2");
    desc->eps = key_float(line, "eps");
    desc->clip = key_float(line, "clip");
    desc->warmup = key_float(line, "warmup");
    desc->decay = key_float(line, "decay");
    desc->geometric_median = (int)key_number(line, "median", 0);
    revivals = key_number(line, "revivals", NOT_SET);
    desc->revivals = revivals == NOT_SET ? 0 : revivals == 0 ? MSAE_OFF : (int)revivals;
    l->power = key_number(line, "power", NOT_SET);
    l->balance = (int)key_number(line, "balance", 0);
    l->random = (int)key_number(line, "random", 0);
    l->exact = (int)key_number(line, "exact", 0);
    l->ema = key_number(line, "ema", 0);
    l->auxk = (size_t)key_number(line, "auxk", 0);
    l->start_near = (size_t)key_number(line, "start_near", 0);
    read_revival_keys(line, &l->revival);
    if (l->revival.revivals > 0) desc->revivals = MSAE_OFF;
}

static void read_grid(job *j) {
    char text[LINE_BYTES];
    FILE *file = fopen(j->grid_path, "r");
    if (!file) fail(j->grid_path, "cannot be read");
    while (fgets(text, sizeof text, file)) {
        grid_line *line = &j->lines[j->n_lines];
        size_t length;
        text[strcspn(text, "#\r\n")] = '\0';
        length = strcspn(text, " ");
        if (length == 0) continue;
        if (length >= sizeof line->name || j->n_lines + 1 == MAX_LINES) {
            fail(j->grid_path, "has too many lines, or a name that is too long");
        }
        memcpy(line->name, text, length);
        if (strchr(line->name, '/')) fail(line->name, "is no name of a file");
        snprintf(line->options, sizeof line->options, "%s", text + length);
        for (size_t end = strlen(line->options); end > 0 && line->options[end - 1] == ' '; end--) {
            line->options[end - 1] = '\0';
        }
        check_keys(line);
        line->seeds = (size_t)key_number(line, "seeds", (double)j->seeds);
        if (line->seeds > MAX_SEEDS) fail(line->name, "has too many seeds");
        j->n_lines++;
    }
    fclose(file);
}
