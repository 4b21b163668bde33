#!/bin/sh
# Compiles concepts.c for the usual targets of Android and iOS into a folder and prints the sizes.
# With ANDROID_NDK set (or on a Mac with Xcode) by their compilers and headers; otherwise by clang with
# stand-ins for the few headers of libc, which checks that it compiles for the processor and the system's
# calling conventions, not that it links. From anywhere: sh examples/mobile/build.sh FOLDER
set -eu
out=${1:?usage: build.sh FOLDER}
source=$(dirname "$0")/concepts.c
clang=${CLANG:-clang}
flags="-std=c99 -Os -fPIC -fno-asynchronous-unwind-tables -fno-unwind-tables -Wall -Wextra -Wpedantic"
flags="$flags -Wconversion -Wshadow -Werror"
mkdir -p "$out/stand-in"
if ! command -v "$clang" > /dev/null; then
    echo "mobile: lacks clang"
    exit 0
fi

# Declarations of what the library calls, as the C standard has them.
cat > "$out/stand-in/string.h" << 'END'
#include <stddef.h>
void *memcpy(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
size_t strlen(const char *);
char *strchr(const char *, int);
int strcmp(const char *, const char *);
END
cat > "$out/stand-in/stdlib.h" << 'END'
#include <stddef.h>
void *malloc(size_t);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);
void free(void *);
END
cat > "$out/stand-in/math.h" << 'END'
double fabs(double);
float fabsf(float);
END
cat > "$out/stand-in/assert.h" << 'END'
#define assert(condition) ((void)0)
END

# compile NAME COMPILER .. : one target
compile() {
    name=$1
    shift
    object=$out/concepts-$name.o
    # shellcheck disable=SC2086 # a list of flags
    if "$@" $flags -c "$source" -o "$object"; then
        bytes=$({ llvm-size "$object" || size "$object"; } 2> /dev/null |
            awk 'NR == 2 && $1 > 0 { print $1 + $2 " bytes of code and data" }')
        printf '%-56s %s\n' "$name$how" "${bytes:-compiles}"
    else
        echo "$name$how FAILED"
        failed=1
    fi
}

failed=0
for target in aarch64-linux-android21 armv7a-linux-androideabi21 x86_64-linux-android21 i686-linux-android21; do
    if [ -n "${ANDROID_NDK:-}" ]; then
        how=
        compile $target "$(echo "$ANDROID_NDK"/toolchains/llvm/prebuilt/*/bin/clang)" --target=$target
    else
        how=" (stand-in headers)"
        compile $target "$clang" --target=$target -ffreestanding -isystem "$out/stand-in"
    fi
done
for target in arm64-apple-ios12.0 arm64-apple-ios12.0-simulator x86_64-apple-ios12.0-simulator; do
    sdk=iphoneos
    case $target in *simulator) sdk=iphonesimulator ;; esac
    if command -v xcrun > /dev/null; then
        how=
        compile $target xcrun --sdk $sdk clang -target $target
    else
        how=" (stand-in headers)"
        compile $target "$clang" --target=$target -ffreestanding -isystem "$out/stand-in"
    fi
done
[ -n "${ANDROID_NDK:-}" ] || echo "mobile: lacks the Android NDK (ANDROID_NDK): nothing was linked for Android"
command -v xcrun > /dev/null || echo "mobile: lacks Xcode: nothing was linked for iOS"
exit $failed
