#!/bin/sh
# Reads msae.h as text, without a compiler, and holds it to the numbers of the table below. Then
# does the same with a tiny header that has something wrong for every rule: no rule is one that
# cannot fail. From the repository's root: sh tests/text.sh [HEADER]. Needs an awk (AWK says
# which).
#
# What is measured: The manual stands above `#ifndef MSAE_H`, the public part goes from there to
# `#endif /* MSAE_H */`, the implementation from there to the last #endif. Directives are all but
# #define and #undef. A function starts in column 0 and ends with a `}` there (msae.h is formatted
# by clang-format); its length is that of both lines and all between, its nesting the blocks in
# braces around a statement; macros are not looked into. Instruction-set code stands under a
# condition on MSAE__HAS_AVX2 and its like, or is the kernels' template (#ifdef MSAE__V or
# MSAE__STAGE). The run part goes from #ifdef MSAE_IMPLEMENTATION to the condition on
# MSAE_RUN_ONLY behind which another part begins. A comment-only line has a comment and no code;
# the percentage is of all lines of the implementation. A prototype's own comment is one that ends on the line above it. A heading
# is a comment that opens with a rule of - or =, and a part's border one of =. The manual's >>tags
# are the contents: each stands in the title of one heading, in the same order, and no comment
# speaks of another. The glossary is the comment under the heading "Glossary", with a line `word
# meaning` for each word. Names are all msae_.. and MSAE_.. that comments speak of; those that end
# with _ stand for several.
#
# The table: the measure; < at most, > at least; the goal; the limit that holds today, which may
# only come nearer to the goal (when it is there, the two are one); what the bad header has.
limits() {
    cat <<'EOF'
lines                        <  12800  16200   71
public_functions             <     89     90    3
public_lines                 <   1000   1350   15
manual_lines                 <    180    180    9
directives                   <    110    182   10
run_only_directives          >      2      2    2
run_only_directives_at_most  <      6      6    2
run_only_inside_a_part       <      0      0    1
instruction_set_lines        <    950   1154    6
run_part_lines               <   3200   3552   30
longest_function             <     60     60   15
most_parameters              <      8      8    9
deepest_nesting              <      4      4    5
longest_line                 <    100    100  101
comment_only_percent         >     11      9   18
prototypes_without_comment   <      0      0    1
comments_of_the_same         <      0      0    1
tags_in_contents             >     20     20    2
tags_untrue                  <      0      0    2
words_in_glossary            >     25     25    1
names_not_in_the_code        <      0      0    1
tabs_and_trailing_blanks     <      0      0    2
notes_to_do                  <      0      0    1
EOF
}

bad_header() {
    cat <<'EOF'
/* bad.h - a header that has something wrong for every rule

   Contents
       >>kernels  stands second below, and
       >>words    first

   TODO: a note.
*/

#ifndef MSAE_H
#define MSAE_H
/* What a caller should know. */
#define MSAE_API extern
/* A function with a comment of its own, of
   two lines. */
MSAE_API int msae_one(const char *text);
MSAE_API int msae_two(int a, int b, int c, int (*d)(int, int), int e, int f, int g, int h,
                      int i); /* beside it */

/* The same for three. */
MSAE__MAKE_API int msae_three(void);

#define MSAE_BAD
#endif /* MSAE_H */

#ifdef MSAE_IMPLEMENTATION
/* ---------------------------------------------------------------------------------------------
   Glossary >>words
   ------------------------------------------------------------------------------------------ */
/* row   one embedding; msae__gone is no name of the code, msae__table is one
*/
static const int msae__table[] = {
    1,
};

MSAE_API int msae_one(const char *text) { return text[0] == '"'; }

#define MSAE__MACRO(a, b, c, d, e, f, g, h, i, j) \
    {
#ifndef MSAE_RUN_ONLY
static __attribute__((unused)) int MSAE__K(two)(int a, int b, int c, int (*d)(int, int), int e,
                                                int f, int g, int h, int i) {
    const char *text = "/* no comment {";
    if (a) {
        while (b) { /* } */
            for (;;) {
                do {
                    switch (c) {
                    default: return d(e, f) + g + h + i + text[0];
                    }
                } while (1);
            }
        }
    }
}
#endif /* MSAE_RUN_ONLY */

/* =============================================================================================
   >>kernels Kernels
   ========================================================================================== */
#ifdef MSAE__HAS_AVX2
#include <immintrin.h>
#ifdef MSAE__V
int v;
#endif
#else
#endif
#endif
EOF
    printf '\tint tab;\nint blank; \n%s%97s%s\n' '/*' x '*/'
}

# Prints a line for each rule, and the counts of passed and failed ones into the file `counts`. With
# self=1 a rule passes when it measures what the last column says and a limit nearer to the goal by
# one would fail.
check() {
    cat <<'EOF'
NR == FNR { name[++rules] = $1; sign[$1] = $2; goal[$1] = $3; kept[$1] = $4; bad[$1] = $5; next }

function count(rule, at) { if (value[rule]++ < 4) where[rule] = where[rule] " " at }
function most(rule, amount, at) {
    if (amount > value[rule]) { value[rule] = amount; where[rule] = " " at }
}
function fails(rule, limit) {
    return sign[rule] == "<" ? value[rule] + 0 > limit : value[rule] + 0 < limit
}

# How many a function has: those of the last parentheses, as in KERNEL(name)(parameters).
function parameters(head,    i, c, depth, open, found) {
    for (i = 1; i <= length(head); i++) {
        c = substr(head, i, 1)
        if (c == "{") break
        if (c == "(" && ++depth == 1) { found = 0; open = i }
        if (c == "," && depth == 1) found++
        if (c == ")" && --depth == 0) found += substr(head, open, i - open) !~ /^\( *(void)? *$/
    }
    return found
}

# A line without comments and strings; `comment` says whether a comment goes on, `said` is what the
# line's comments say.
function code(text,    out, at) {
    said = ""
    while (1) {
        if (!comment) {
            gsub(/'"'/, "0", text)
            gsub(/"([^"\\]|\\.)*"/, "0", text)
            sub(/\/\/.*/, "", text)
        }
        if (!(at = index(text, comment ? "*/" : "/*"))) break
        if (comment) said = said substr(text, 1, at - 1)
        else out = out substr(text, 1, at - 1)
        text = substr(text, at + 2)
        comment = !comment
    }
    if (comment) said = said text
    else out = out text
    sub(/[ \t]+$/, "", out)
    return out
}

# Keeps `isa`, which says for each open condition whether it is one on an instruction set.
function condition(text) {
    if (text ~ /^# *endif/) level--
    else if (text ~ /^# *(if|el)/) {
        if (text ~ /^# *if/) level++
        isa[level] = level > 1 && isa[level - 1]
        if (text ~ /^# *ifndef/) return
        if (text ~ /MSAE__HAS_(AVX|NEON|WASM)|^#ifdef MSAE__(V|STAGE)$/) isa[level] = 1
    }
}

{
    line[FNR] = $0
    value["lines"] = FNR
    most("longest_line", length($0), FNR)
    if (/\t/ || / $/) count("tabs_and_trailing_blanks", FNR)
    if (/TODO|FIXME|XXX/) count("notes_to_do", FNR)
    was = comment
    text = code($0)
    only = text == "" && (was || /\/[*\/]/)
    if (/^#ifndef MSAE_H$/) { part = 1; value["manual_lines"] = FNR - 1; first = FNR }
}

{ # tags, glossary, names
    titled = FNR > 1 && heading == FNR - 1 || /^\/\* ---- [^-]/
    rest = $0
    while (match(rest, />>[a-z][a-z0-9_]*/)) {
        tag = substr(rest, RSTART, RLENGTH)
        if (!part) { contents[++listed] = tag; value["tags_in_contents"]++ }
        else if (titled) tags[++tagged] = tag
        else spoken[tag] = FNR
        rest = substr(rest, RSTART + RLENGTH)
    }
    if (titled) glossary = /^ *(>>[a-z]+ )?Glossary/
    if (/^\/\* (---|===)/) { heading = FNR; glossary = 0 }
    if (glossary && only && /^(\/\*| ) *[a-z][a-z, -]*  +[^ ]/) count("words_in_glossary", FNR)
    for (heard = 1; heard >= 0; heard--) {
        rest = heard ? said : text
        while (match(rest, /(MSAE|msae)_[A-Za-z0-9_]+/)) {
            if (heard) named[substr(rest, RSTART, RLENGTH)] = FNR
            else used[substr(rest, RSTART, RLENGTH)] = 1
            rest = substr(rest, RSTART + RLENGTH)
        }
    }
}

part == 1 {
    if (only && !was) opening = $0
    if (/\/\* The same/) count("comments_of_the_same", FNR)
    if (/^MSAE_(_[A-Z]+_)?API /) {
        value["public_functions"]++
        if (!own) count("prototypes_without_comment", FNR)
    }
    own = only && !comment && opening !~ /^\/\* (---|===)/
    if (/^#endif \/\* MSAE_H \*\/$/) {
        part = 2
        value["public_lines"] = FNR - first + 1
        first = FNR
    }
    next
}

part == 2 {
    if (/^#ifdef MSAE_IMPLEMENTATION$/) start = FNR
    if (only) comments++
    directive = /^#/ && !was
    counted = level && isa[level]
    if (directive) {
        if (!/^# *(define|undef)/) value["directives"]++
        if (/RUN_ONLY/) run_only[++run_onlys] = FNR
        condition(text)
        if (/^# *endif/) { share = comments * 100 / (FNR - first); end = FNR }
    }
    if (counted || level && isa[level]) value["instruction_set_lines"]++
    if (directive || macro) { macro = /\\$/; next }
    if (text == "") next
    if (inside && text ~ /^}/) { most("longest_function", FNR - inside + 1, inside); inside = 0 }
    else if (inside) {
        if (text ~ /^ *}/) depth--
        if (text ~ /\{$/) { depth++; if (text !~ /= *\{$/) most("deepest_nesting", depth, FNR) }
    } else if (head != "" || text ~ /^[A-Za-z_]/) {
        if (head == "") begin = FNR
        head = head text
        if (text !~ /[{};]$/) next
        if (head ~ /\)[^=;]*\{/) {
            most("most_parameters", parameters(head), begin)
            most("longest_function", FNR - begin + 1, begin)
            if (text ~ /\{$/) { inside = begin; depth = 0 }
        }
        head = ""
    }
}

# Whether a part begins right after a line, but for directives.
function opens(at) {
    while (++at <= end && line[at] ~ /^(#.*)?$/);
    return at > end || line[at] ~ /^\/\* ===/
}

# Whether a line is at the border of a part: only directives stand between it and a heading of =.
function border(at,    i) {
    for (i = at - 1; i > 1 && line[i] ~ /^(#.*)?$/; i--);
    if (line[i] ~ /=== \*\/$/) return 1
    return opens(at)
}

END {
    value["run_only_directives"] = value["run_only_directives_at_most"] = run_onlys
    for (i = 1; i <= run_onlys; i++) {
        if (!border(run_only[i])) count("run_only_inside_a_part", run_only[i])
        if (!stop && opens(run_only[i])) stop = run_only[i]
    }
    value["run_part_lines"] = (stop ? stop : end) - start
    value["comment_only_percent"] = int(share)
    for (i = 1; i <= listed || i <= tagged; i++) {
        if (listed && contents[i] != tags[i]) count("tags_untrue", contents[i] "/" tags[i])
        known[tags[i]] = 1
    }
    for (tag in spoken) if (!(tag in known)) count("tags_untrue", spoken[tag])
    for (i in named) if (!(i in used) && i !~ /_$/) count("names_not_in_the_code", named[i])
    for (i = 1; i <= rules; i++) {
        rule = name[i]
        nearer = sign[rule] == "<" ? -1 : 1
        if (self) failed = value[rule] + 0 != bad[rule] || !fails(rule, bad[rule] + nearer)
        else failed = fails(rule, kept[rule])
        failures += failed
        if (self && failed) print "FAIL bad header: " rule " " value[rule] + 0 ", not " bad[rule]
        if (self) continue
        limit = (sign[rule] == "<" ? "at most " : "at least ") kept[rule] " (goal " goal[rule] ")"
        lines = (failed || fails(rule, goal[rule])) && where[rule] != "" ? ", line" where[rule] : ""
        better = ""
        if (kept[rule] != goal[rule] && !fails(rule, kept[rule] + nearer)) better = ": limit can follow"
        printf "%s %-27s %5d, ", failed ? "FAIL" : "ok  ", rule, value[rule]
        print limit lines better
    }
    print rules - failures, failures + 0 > counts
}
EOF
}

results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT
limits >"$results/limits"
bad_header >"$results/bad.h"
check >"$results/check.awk"
measure() {
    ${AWK:-awk} -v self="$1" -v counts="$results/counts.$1" -f "$results/check.awk" \
        "$results/limits" "$2"
}
measure 0 "${1:-msae.h}"
measure 1 "$results/bad.h"
cat "$results"/counts.* | awk '{ passed += $1; failed += $2 }
    END { print passed + 0 " passed, " failed + (NR < 2) " failed"; exit NR < 2 || failed > 0 }'
