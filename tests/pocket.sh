#!/bin/sh
# Prints the run part of msae.h as a header of its own, msae_run.h: what MSAE_RUN_ONLY leaves, without
# the rest's text. From the repository's root: sh tests/pocket.sh > msae_run.h. Needs an awk.
#
# Of the public part, groups with nothing that runs a model are left out, and in the others the
# functions that MSAE_RUN_ONLY leaves out, each with its comment. Of the implementation stays what
# stands in front of the condition on MSAE_RUN_ONLY and under it, of the kernels at the end all stages
# but that of batches, of the paths all but AVX-512, which only trains.
cat <<'END'
/* msae_run.h - loads and runs Matryoshka sparse autoencoders (MSAE), in a single header, without
   allocation in the hot calls and without libm. Made from msae.h by `make pocket`; train with that.

   Use: in one C or C++ file, before the header,

       #define MSAE_IMPLEMENTATION
       #include "msae_run.h"

       msae_model model;                                       load once
       msae_error error;
       if (msae_load_file(&model, "clip.safetensors", NULL, &error) != MSAE_OK) puts(error.message);
       void *workspace = malloc(msae_workspace_bytes(&model, 1));

       msae_code codes[32];                                    { latent, value }, strongest first
       size_t count;
       msae_encode(&model, workspace, embedding, 32, codes, &count);
       codes[0].value *= 2;                                    more of the strongest concept

   Switches

       MSAE_STATIC             functions are private to the file
       MSAE_NO_STDIO           no function opens a file: msae_map, or load from memory
       MSAE_NO_SIMD            the scalar kernels only
       MSAE_NO_REFINE          no refined codes, which are 3 KB
       MSAE_ASSERT(condition)  assert, unless it is defined
       MSAE_MALLOC, MSAE_FREE  malloc and free, unless both are defined

   A file is checked before it is believed: a model that loads is safe to use. Errors have a code and
   the byte or row at fault; their message is the text of the code. Nothing is printed. Calls on one
   model may run at once, each with a workspace of its own, if the model's parallel hook is re-entrant
   or not set. Models by rows (`msae convert --dtype`) are used where they lie in memory by msae_map.
*/
END
awk '
# Reads a group of the public part up to the next heading, and prints it unless it only makes.
function end_group(   runs, makes, i) {
    for (i = 1; i <= n; i++) {
        if (group[i] ~ /^(MSAE_API|MSAE__REFINE_API) /) runs = 1
        else if (group[i] ~ /^MSAE__[A-Z]+_API /) makes = 1
    }
    if (runs || !makes) print_group()
    n = 0
}
function print_group(   i, text, line) {
    text = ""
    for (i = 1; i <= n; i++) {
        line = group[i]
        if (line ~ /^\/\*/ && line !~ /^\/\* ----/ && text == "") { # a comment may belong to a prototype
            text = line "\n"
            while (line !~ /\*\/ *$/ && i < n) { line = group[++i]; text = text line "\n" }
            continue
        }
        if (line ~ /^MSAE__[A-Z]+_API / && line !~ /^MSAE__REFINE_API /) {
            while (line !~ /;( *\/\*.*)?$/ && i < n) line = group[++i]
            while (line ~ /\/\*/ && line !~ /\*\//) line = group[++i]
            text = ""
            if (group[i + 1] == "") i++
            continue
        }
        printf "%s", text
        text = ""
        print line
    }
    printf "%s", text
}
/^#ifndef MSAE_H$/ { public = 1 }
!public { next }
public == 1 {
    if (/^#endif \/\* MSAE_H \*\//) { end_group(); print; public = 2; next }
    if (/^\/\* ----/) end_group()
    group[++n] = $0
    next
}
public == 2 && /^#ifdef MSAE_IMPLEMENTATION/ { public = 3; print "" }
public == 2 { next }
public == 3 && /^#ifdef MSAE_RUN_ONLY/ { next }          # what follows is the small form
public == 3 && /^#else +\/\* with MSAE_RUN_ONLY/ { public = 4; next }
public == 4 { if (/^#endif \/\* MSAE_RUN_ONLY \*\//) public = 5; next }
public == 5 && /^#else +\/\* (MSAE__BATCH_STAGE|AVX-512)/ { skip = 1 }
skip && /^#if/ { deep++ }
skip && /^#endif/ && deep-- == 0 { skip = deep = 0 }
skip { next }
public >= 3 { print }
' msae.h | sed 's/"msae\.h"/"msae_run.h"/; /^#define MSAE_HEADER/s/name of this file, if it is another/name of this file/' |
    awk '
# The public part knows no other mode.
/^#ifdef MSAE_RUN_ONLY/ { print "#define MSAE_RUN_ONLY"; skip = 1 }
skip && /^#if/ { depth++ }
skip { if (/^#endif/ && --depth == 0) skip = 0; next }
/^$/ && blank { next }
{ blank = /^$/; print }
'
