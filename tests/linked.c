/* The library for the tests that look at none of its internals (TEST_LINKED in test.h, which this
   file is compiled with as well). */
#define _POSIX_C_SOURCE 200809L

#define MSAE_IMPLEMENTATION
#define MSAE_USE_PTHREADS
#include "msae.h"

#include "test.h"

#define TEST_INSIDE
#include "inside.h"
