/* The members of a zip, of torch.save or of numpy, read by the letter: the directory, each member's
   own header and the descriptor behind it say the same, and nothing overlaps, is there twice or lies
   outside the file. Of the two ways to keep a member, stored and deflated, the second is left to
   inflate.c. Needs msae.h and bytes.c. All functions are thread-safe. */
#ifndef ZIP_H
#define ZIP_H

#include "../../msae.h"

/* The first four bytes of what a zip is made of, and how long each part is without names, extra
   fields and comments. */
#define ZIP_ENTRY 0x02014b50u
#define ZIP_LOCAL 0x04034b50u
#define ZIP_DESCRIPTOR 0x08074b50u
#define ZIP_END 0x06054b50u
#define ZIP_END64 0x06064b50u
#define ZIP_LOCATOR 0x07064b50u
enum {
    ZIP_ENTRY_BYTES = 46,
    ZIP_LOCAL_BYTES = 30,
    ZIP_END_BYTES = 22,
    ZIP_END64_BYTES = 56,
    ZIP_LOCATOR_BYTES = 20
};
enum { ZIP_FLAG_DESCRIPTOR = 8, ZIP_FLAG_UTF8 = 0x800 };

typedef struct zip_member {
    const char *name; /* not terminated; without control characters */
    size_t name_bytes;
    uint64_t header, at;    /* in the file, of the local header and of the data */
    uint64_t stored, bytes; /* as they lie there, and when they are inflated */
    uint32_t crc;           /* of the latter */
    int is_deflated;
} zip_member;

typedef struct zip_file {
    zip_member *members; /* [n_members] by name */
    size_t n_members;
    /* private */
    msae_allocator allocator;
    void *directory;
    size_t directory_bytes, room;
} zip_file;

/* Reads the directory and the members' headers. Memory is 3 times the directory, of which 64 MB are
   read at most. On failure nothing is held. */
msae_status zip_open(zip_file *zip, const msae_reader *reader, const msae_allocator *allocator,
                     msae_error *error);
/* Fine on a zeroed struct. */
void zip_close(zip_file *zip);

/* The member called folder and name in a row, or NULL. */
const zip_member *zip_find(const zip_file *zip, const char *folder, size_t folder_bytes,
                           const char *name, size_t name_bytes);
/* 1 when a member's name ends so. */
int zip_ends_in(const zip_member *member, const char *ending);

/* Fills in an error about a member, MSAE_ERROR_FORMAT, and returns its code. */
msae_status zip_fail_member(msae_error *error, const zip_member *member, const char *what);

#endif /* ZIP_H */
