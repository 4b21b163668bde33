/* The main of a fuzz target without a fuzzer: runs it once on every file named on the command line,
   and on every file in the folders named there. A check that fails ends the program; the last line
   printed before is the file. */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static size_t passed, failed;

static void replay_file(const char *path, FILE *file) {
    uint8_t *input = NULL;
    size_t size = 0, got;
    char part[4096];
    while ((got = fread(part, 1, sizeof part, file)) > 0) {
        uint8_t *more = realloc(input, size + got);
        if (more == NULL) {
            puts("out of memory");
            exit(1);
        }
        memcpy(more + size, part, got);
        input = more;
        size += got;
    }
    puts(path);
    LLVMFuzzerTestOneInput(input, size);
    passed++;
    free(input);
}

static void replay(const char *path) {
    DIR *folder = opendir(path);
    if (folder != NULL) {
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char inside[4096];
            if (entry->d_name[0] == '.') continue;
            snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
            replay(inside);
        }
        closedir(folder);
        return;
    }
    FILE *file = fopen(path, "rb");
    if (file != NULL) {
        replay_file(path, file);
        fclose(file);
    } else {
        printf("%s: cannot be read\n", path);
        failed++;
    }
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (int i = 1; i < argc; i++) replay(argv[i]);
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
