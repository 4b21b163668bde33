/* Inflate: what deflate (RFC 1951) packed, as in the members of a zip. Needs msae.h and bytes.h. */
#ifndef INFLATE_H
#define INFLATE_H

#include "../../msae.h"

/* Unpacks `size` bytes into out [out_size], which they have to fill exactly, with nothing of them
   left. MSAE_ERROR_FORMAT otherwise, with the byte of `bytes` at which it became clear. Nothing
   outside of either is touched, allocates nothing. Thread-safe. */
msae_status inflate_bytes(const unsigned char *bytes, size_t size, unsigned char *out,
                          size_t out_size, msae_error *error);

#endif /* INFLATE_H */
