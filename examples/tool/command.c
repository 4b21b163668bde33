/* The one way from a command's arguments to its exit status. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* Every file that the command is to write can be written, and is not another one's too. */
static int check_outputs(const tool_command *command, const char *job) {
    int status = TOOL_OK;
    for (size_t i = 0; i < command->n_options && status == TOOL_OK; i++) {
        const tool_option *option = &command->options[i];
        if (option->kind < TOOL_WRITES_MODEL) continue;
        const char *path = *(const char *const *)(const void *)(job + option->at);
        if (path != NULL) status = tool_check_output(option->name, path, option->kind);
    }
    return status;
}

int tool_run(const tool_command *command, int argc, char **argv) {
    void *job = tool_alloc(1, command->job_bytes);
    if (job == NULL) return tool_fail_memory();
    if (command->defaults != NULL) memcpy(job, command->defaults, command->job_bytes);
    int status = tool_parse(command, job, argc, argv);
    if (status == TOOL_GO) {
        status = check_outputs(command, job);
        if (status == TOOL_OK) status = command->run(job);
        if (command->close != NULL) command->close(job);
    }
    free(job);
    return status;
}
