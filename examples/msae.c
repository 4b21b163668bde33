/* The command-line tool: train, evaluate and use Matryoshka sparse autoencoders. Its commands lie
   in tool/, one file and one table each; this one picks the command and holds the library. */
#define MSAE_IMPLEMENTATION
#include "tool/tool.h"

#include <errno.h>
#include <string.h>

static const tool_command *const commands[] = {
    &tool_train, &tool_eval, &tool_encode, &tool_decode,  &tool_info,  &tool_name,
    &tool_top,   &tool_tree, &tool_search, &tool_steer,   &tool_align, &tool_score,
    &tool_probe, &tool_bias, &tool_report, &tool_convert,
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static int print_help(void) {
    puts("msae " MSAE_VERSION " - Matryoshka sparse autoencoders\n\n"
         "msae COMMAND ARGUMENTS .. [OPTION ..]\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-10s%s\n", commands[i]->name, commands[i]->brief);
    }
    puts("\nmsae COMMAND --help lists a command's options.\n"
         "The exit status is 0 when all went well, 1 when a file, a value or an option's name is "
         "at\n"
         "fault and 2 when the command line lacks something or has too much.");
    return TOOL_OK;
}

static int run_command(int argc, char **argv) {
    if (argc < 2) return tool_usage(NULL, "a command is missing");
    if (tool_is_help(argv[1])) return print_help();
    if (strcmp(argv[1], "--version") == 0) {
        puts("msae " MSAE_VERSION);
        return TOOL_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i]->name) == 0) {
            return tool_run(commands[i], argc - 2, argv + 2);
        }
    }
    return tool_usage(NULL, "unknown command '%s'", argv[1]);
}

int main(int argc, char **argv) {
    int status = run_command(argc, argv);
    /* A full disk shows up when the last bytes leave the buffer, or has shown up before. */
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == TOOL_OK) {
        return tool_fail("standard output", "%s",
                         errno != 0 ? strerror(errno) : "could not be written");
    }
    return status;
}
