/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_ASSERT_H
#define MSVC_ASSERT_H

#define assert(condition) ((void)0)

#endif
