/* The command-line tool: train, evaluate and use Matryoshka sparse autoencoders. Its commands lie
   in tool/, one file each; this one picks the command and holds the library. */
#define MSAE_IMPLEMENTATION
#include "tool/tool.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"train", "trains a model on embeddings", tool_train},
    {"eval", "measures a model at every sparsity", tool_eval},
    {"encode", "turns embeddings into sparse codes", tool_encode},
    {"decode", "turns sparse codes back into embeddings", tool_decode},
    {"info", "says what a file holds", tool_info},
    {"name", "names a model's latents with words", tool_name},
    {"top", "shows a latent's strongest rows, or a row's strongest concepts", tool_top},
    {"search", "finds rows by their concepts and by their embeddings", tool_search},
    {"steer", "edits concepts of embeddings", tool_steer},
    {"align", "matches the latents of two models", tool_align},
    {"probe", "tells classes apart, and what reconstructions keep of them", tool_probe},
    {"bias", "finds the latents that go with an attribute", tool_bias},
    {"report", "writes a page about a model", tool_report},
    {"convert", "reads and writes other projects' models", tool_convert},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static int print_help(void) {
    puts("msae " MSAE_VERSION " - Matryoshka sparse autoencoders\n\n"
         "msae COMMAND ARGUMENTS .. [OPTION ..]\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-10s%s\n", commands[i].name, commands[i].summary);
    }
    puts("\nmsae COMMAND --help lists a command's options.\n"
         "The exit status is 0 when all went well, 1 when a file, a value or an option's name is "
         "at\n"
         "fault and 2 when the command line lacks something or has too much.");
    return TOOL_OK;
}

static int run(int argc, char **argv) {
    if (argc < 2) return tool_usage(NULL, "a command is missing");
    if (tool_is_help(argv[1])) return print_help();
    if (strcmp(argv[1], "--version") == 0) {
        puts("msae " MSAE_VERSION);
        return TOOL_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    }
    return tool_usage(NULL, "unknown command '%s'", argv[1]);
}

int main(int argc, char **argv) {
    int status = run(argc, argv);
    /* A full disk shows up when the last bytes leave the buffer, or has shown up before. */
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == TOOL_OK) {
        return tool_fail("standard output", "%s",
                         errno != 0 ? strerror(errno) : "could not be written");
    }
    return status;
}
