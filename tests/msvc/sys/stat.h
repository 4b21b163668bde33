/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_SYS_STAT_H
#define MSVC_SYS_STAT_H

#include <stddef.h>
#define _S_IFREG 0x8000
#define _S_IFDIR 0x4000
#ifdef __cplusplus
extern "C" {
#endif
struct _stat64 {
    unsigned short st_mode;
    long long st_size;
};
int _stat64(const char *path, struct _stat64 *info);
int _wstat64(const wchar_t *path, struct _stat64 *info);
#ifdef __cplusplus
}
#endif

#endif
