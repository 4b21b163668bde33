/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_STDIO_H
#define MSVC_STDIO_H

#include <stddef.h>
#define SEEK_SET 0
#define SEEK_END 2
#define UNSAFE __declspec(deprecated("This function may be unsafe.")) /* C4996 */
#ifdef __cplusplus
extern "C" {
#endif
typedef struct _iobuf FILE;
UNSAFE FILE *fopen(const char *path, const char *mode);
UNSAFE FILE *_wfopen(const wchar_t *path, const wchar_t *mode);
int fclose(FILE *file);
int fflush(FILE *file);
size_t fread(void *bytes, size_t size, size_t count, FILE *file);
size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file);
int _fseeki64(FILE *file, long long offset, int from);
long long _ftelli64(FILE *file);
int _fileno(FILE *file);
int remove(const char *path);
int _wremove(const wchar_t *path);
#ifdef __cplusplus
}
#endif

#endif
