/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_IO_H
#define MSVC_IO_H

#ifdef __cplusplus
extern "C" {
#endif
int _commit(int number);
#ifdef __cplusplus
}
#endif

#endif
