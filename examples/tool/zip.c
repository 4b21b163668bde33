/* The members of a zip. See zip.h. */
#include "zip.h"

#include "bytes.h"

#include <stdlib.h>
#include <string.h>

typedef struct zip_end {
    uint64_t at, bytes, entries; /* of the directory, which ends where the end records start */
} zip_end;

enum {
    MAX_DIRECTORY = 64 << 20, /* bytes that are read whole, and hold no data */
    MAX_TAIL = ZIP_END_BYTES + 65535,
    FLAG_ENCRYPTED = 1,
    FLAGS_DEFLATE = 6, /* how hard it tried */
    METHOD_DEFLATE = 8,
    MAX_RATIO = 1040 /* a match of 258 bytes takes two bits */
};

/* The zip64 end record, which starts at byte ends_at of the file, and the locator behind it; agrees
   with what the plain end record says where that says anything. */
static msae_status read_end64(const unsigned char *record, const unsigned char *locator,
                              uint64_t ends_at, zip_end *end, msae_error *error) {
    const unsigned long long at = ends_at;
    const uint64_t entries = bytes_get(record + 32, 8), size = bytes_get(record + 40, 8);
    const uint64_t start = bytes_get(record + 48, 8);
    if (bytes_get(locator + 4, 4) != 0 || bytes_get(locator + 8, 8) != ends_at ||
        bytes_get(locator + 16, 4) != 1 || bytes_get(record, 4) != ZIP_END64 ||
        bytes_get(record + 4, 8) != ZIP_END64_BYTES - 12 || bytes_get(record + 16, 8) != 0 ||
        bytes_get(record + 24, 8) != entries) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, ends_at,
                          "byte %llu: the zip64 end record is malformed", at);
    }
    if ((end->entries != 0xffff && end->entries != entries) ||
        (end->bytes != 0xffffffff && end->bytes != size) ||
        (end->at != 0xffffffff && end->at != start)) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, ends_at,
                          "byte %llu: the zip's two end records differ", at);
    }
    end->entries = entries;
    end->bytes = size;
    end->at = start;
    return MSAE_OK;
}

/* Where the end record is: the file's last bytes, but for a comment whose length it tells. */
static msae_status find_end(const msae_reader *reader, const msae_allocator *allocator,
                            uint64_t *at, msae_error *error) {
    const uint64_t size = reader->size;
    const size_t have = size < MAX_TAIL ? (size_t)size : MAX_TAIL;
    unsigned char *tail;
    msae_status status;
    int found = 0;
    if (size < ZIP_END_BYTES) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, 0, "is too short for a zip: %llu bytes",
                          (unsigned long long)size);
    }
    tail = bytes_read_block(reader, size - have, have, allocator, &status, error);
    if (tail == NULL) return status;
    for (size_t back = ZIP_END_BYTES; back <= have && !found; back++) {
        const unsigned char *end = tail + have - back;
        found = bytes_get(end, 4) == ZIP_END && bytes_get(end + 20, 2) == back - ZIP_END_BYTES;
        *at = size - back;
    }
    bytes_give(allocator, tail, have);
    if (found) return MSAE_OK;
    return bytes_fail(error, MSAE_ERROR_FORMAT, size - ZIP_END_BYTES,
                      "byte %llu: the zip's end record is not there: the file is cut short, or "
                      "something lies behind it",
                      (unsigned long long)(size - ZIP_END_BYTES));
}

/* Nothing lies between the directory and the end records. */
static msae_status read_end(const msae_reader *reader, const msae_allocator *allocator,
                            zip_end *end, msae_error *error) {
    unsigned char ends[ZIP_END64_BYTES + ZIP_LOCATOR_BYTES + ZIP_END_BYTES] = {0};
    unsigned char *last = ends + sizeof ends - ZIP_END_BYTES, *locator = last - ZIP_LOCATOR_BYTES;
    uint64_t at = 0, ends_at;
    msae_status status = find_end(reader, allocator, &at, error);
    if (status != MSAE_OK) return status;
    const uint64_t behind = at + ZIP_END_BYTES;
    const size_t have = behind < sizeof ends ? (size_t)behind : sizeof ends;
    status = bytes_read(reader, behind - have, ends + sizeof ends - have, have, error);
    if (status != MSAE_OK) return status;
    ends_at = at;
    if (bytes_get(last + 4, 4) != 0 || bytes_get(last + 8, 2) != bytes_get(last + 10, 2)) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, at, "byte %llu: a zip of several volumes",
                          (unsigned long long)at);
    }
    end->entries = bytes_get(last + 10, 2);
    end->bytes = bytes_get(last + 12, 4);
    end->at = bytes_get(last + 16, 4);
    if (have == sizeof ends && bytes_get(locator, 4) == ZIP_LOCATOR) {
        ends_at = at - ZIP_LOCATOR_BYTES - ZIP_END64_BYTES;
        status = read_end64(ends, locator, ends_at, end, error);
        if (status != MSAE_OK) return status;
    }
    if (end->at > ends_at || end->bytes != ends_at - end->at) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, ends_at,
                          "byte %llu: the zip's directory does not end where its end record starts",
                          (unsigned long long)ends_at);
    }
    if (end->entries > end->bytes / ZIP_ENTRY_BYTES) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, ends_at,
                          "byte %llu: the zip claims %llu records, its directory has %llu bytes",
                          (unsigned long long)ends_at, (unsigned long long)end->entries,
                          (unsigned long long)end->bytes);
    }
    if (end->bytes > MAX_DIRECTORY) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, end->at, "the zip's directory has %llu bytes",
                          (unsigned long long)end->bytes);
    }
    return MSAE_OK;
}

/* Puts the 64-bit values of the extra field 1 in place of those (values [count], in its order) that
   are 0xffffffff. 0 when one is missing. */
static int read_zip64(const unsigned char *extra, size_t bytes, uint64_t *values, size_t count) {
    const unsigned char *field = NULL;
    size_t left = 0;
    while (bytes >= 4) {
        const size_t size = (size_t)bytes_get(extra + 2, 2);
        if (size > bytes - 4) return 0;
        if (bytes_get(extra, 2) == 1) {
            field = extra + 4;
            left = size;
        }
        extra += 4 + size;
        bytes -= 4 + size;
    }
    for (size_t i = 0; i < count; i++) {
        if (values[i] != 0xffffffff) continue;
        if (left < 8) return 0;
        values[i] = bytes_get(field, 8);
        field += 8;
        left -= 8;
    }
    return 1;
}

static int shown(size_t bytes) {
    return (int)(bytes < 60 ? bytes : 60);
}

msae_status zip_fail_member(msae_error *error, const zip_member *member, const char *what) {
    return bytes_fail(error, MSAE_ERROR_FORMAT, member->header, "byte %llu: the record %.*s %s",
                      (unsigned long long)member->header, shown(member->name_bytes), member->name,
                      what);
}

/* The entry at *at of the directory, moved behind it. */
static msae_status read_entry(const unsigned char *directory, size_t bytes, const zip_end *end,
                              size_t *at, zip_member *member, unsigned *flags, msae_error *error) {
    const unsigned char *entry = directory + *at;
    const size_t left = bytes - *at;
    const uint64_t position = end->at + *at;
    uint64_t values[3]; /* size, stored size, offset */
    size_t name, extra, comment;
    if (left < ZIP_ENTRY_BYTES || bytes_get(entry, 4) != ZIP_ENTRY) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, position,
                          "byte %llu: no record's entry in the zip's directory",
                          (unsigned long long)position);
    }
    name = (size_t)bytes_get(entry + 28, 2);
    extra = (size_t)bytes_get(entry + 30, 2);
    comment = (size_t)bytes_get(entry + 32, 2);
    if (name == 0 || name + extra + comment > left - ZIP_ENTRY_BYTES) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, position,
                          "byte %llu: an entry that the zip's directory has no room for",
                          (unsigned long long)position);
    }
    member->name = (const char *)entry + ZIP_ENTRY_BYTES;
    member->name_bytes = name;
    member->header = position;
    for (size_t i = 0; i < name; i++) {
        if ((unsigned char)member->name[i] < 32 || member->name[i] == 127) {
            member->name_bytes = i;
            return zip_fail_member(error, member, ".. has a control character in its name");
        }
    }
    *flags = (unsigned)bytes_get(entry + 8, 2);
    const unsigned method = (unsigned)bytes_get(entry + 10, 2);
    if (*flags & FLAG_ENCRYPTED) return zip_fail_member(error, member, "is encrypted");
    if (*flags & ~(unsigned)(ZIP_FLAG_DESCRIPTOR | ZIP_FLAG_UTF8 |
                             (method == METHOD_DEFLATE ? FLAGS_DEFLATE : 0))) {
        return zip_fail_member(error, member, "has unknown flags");
    }
    if (method != 0 && method != METHOD_DEFLATE) {
        return zip_fail_member(error, member, "is compressed, and not by deflate");
    }
    if (bytes_get(entry + 34, 2) != 0) {
        return zip_fail_member(error, member, "is on another volume");
    }
    member->crc = (uint32_t)bytes_get(entry + 16, 4);
    values[0] = bytes_get(entry + 24, 4);
    values[1] = bytes_get(entry + 20, 4);
    values[2] = bytes_get(entry + 42, 4);
    if (!read_zip64(entry + ZIP_ENTRY_BYTES + name, extra, values, 3)) {
        return zip_fail_member(error, member, "has a malformed extra field");
    }
    member->is_deflated = method == METHOD_DEFLATE;
    if (!member->is_deflated && values[0] != values[1]) {
        return zip_fail_member(error, member, "has another size stored than uncompressed");
    }
    if (member->is_deflated && values[0] / MAX_RATIO > values[1]) {
        return zip_fail_member(error, member, "would be longer than its bytes can say");
    }
    if (values[2] > end->at || end->at - values[2] < ZIP_LOCAL_BYTES) {
        return zip_fail_member(error, member, "would start behind the zip's records");
    }
    member->bytes = values[0];
    member->stored = values[1];
    member->header = values[2];
    *at += ZIP_ENTRY_BYTES + name + extra + comment;
    return MSAE_OK;
}

/* Behind the data of a record that was written before its size was known. */
static int matches_descriptor(const unsigned char *bytes, size_t size, const zip_member *member) {
    for (size_t skip = 0; skip <= 4; skip += 4) {
        if (skip == 4 && (size < 4 || bytes_get(bytes, 4) != ZIP_DESCRIPTOR)) break;
        for (size_t width = 4; width <= 8; width += 4) {
            if (size >= skip + 4 + 2 * width && bytes_get(bytes + skip, 4) == member->crc &&
                bytes_get(bytes + skip + 4, width) == member->stored &&
                bytes_get(bytes + skip + 4 + width, width) == member->bytes) {
                return 1;
            }
        }
    }
    return 0;
}

/* The local header agrees with the directory's entry; says where the data starts. */
static msae_status read_local(const msae_reader *reader, uint64_t limit, unsigned flags,
                              const msae_allocator *allocator, zip_member *member,
                              msae_error *error) {
    unsigned char header[ZIP_LOCAL_BYTES], descriptor[24], part[64];
    uint64_t values[2], left = limit - member->header - ZIP_LOCAL_BYTES;
    size_t name, extra;
    const unsigned method = member->is_deflated ? METHOD_DEFLATE : 0;
    int same = 1;
    msae_status status = bytes_read(reader, member->header, header, sizeof header, error);
    if (status != MSAE_OK) return status;
    name = (size_t)bytes_get(header + 26, 2);
    extra = (size_t)bytes_get(header + 28, 2);
    if (bytes_get(header, 4) != ZIP_LOCAL || name != member->name_bytes) {
        return zip_fail_member(error, member, "has no local header of its name");
    }
    if (name + extra > left || member->stored > left - name - extra) {
        return zip_fail_member(error, member, "is larger than the zip");
    }
    member->at = member->header + ZIP_LOCAL_BYTES + name + extra;
    for (size_t i = 0; i < name && same; i += sizeof part) {
        const size_t count = name - i < sizeof part ? name - i : sizeof part;
        status = bytes_read(reader, member->header + ZIP_LOCAL_BYTES + i, part, count, error);
        if (status != MSAE_OK) return status;
        same = memcmp(part, member->name + i, count) == 0;
    }
    if (!same) return zip_fail_member(error, member, "has no local header of its name");
    values[0] = bytes_get(header + 22, 4);
    values[1] = bytes_get(header + 18, 4);
    if (values[0] == 0xffffffff || values[1] == 0xffffffff) {
        unsigned char *fields =
            bytes_read_block(reader, member->at - extra, extra, allocator, &status, error);
        if (fields == NULL) return status;
        same = read_zip64(fields, extra, values, 2);
        bytes_give(allocator, fields, extra);
    }
    if (bytes_get(header + 6, 2) != flags || bytes_get(header + 8, 2) != method) same = 0;
    if (flags & ZIP_FLAG_DESCRIPTOR) {
        const uint64_t behind = limit - member->at - member->stored;
        const size_t count = behind < sizeof descriptor ? (size_t)behind : sizeof descriptor;
        status = bytes_read(reader, member->at + member->stored, descriptor, count, error);
        if (status != MSAE_OK) return status;
        if (!matches_descriptor(descriptor, count, member)) {
            return zip_fail_member(error, member, "differs from the descriptor behind it");
        }
        if (values[0] != 0 || values[1] != 0) {
            same = same && values[0] == member->bytes && values[1] == member->stored;
        }
    } else {
        same = same && values[0] == member->bytes && values[1] == member->stored &&
               bytes_get(header + 14, 4) == member->crc;
    }
    return same ? MSAE_OK : zip_fail_member(error, member, "differs from its local header");
}

static int compare_names(const void *a, const void *b) {
    const zip_member *x = a, *y = b;
    const size_t bytes = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    const int order = memcmp(x->name, y->name, bytes);
    return order != 0 ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

static int compare_places(const void *a, const void *b) {
    const zip_member *x = a, *y = b;
    if (x->header != y->header) return x->header < y->header ? -1 : 1;
    return compare_names(a, b);
}

static msae_status read_members(zip_file *zip, const msae_reader *reader, msae_error *error) {
    zip_end end = {0, 0, 0};
    size_t at = 0;
    msae_status status = read_end(reader, &zip->allocator, &end, error);
    if (status != MSAE_OK) return status;
    zip->directory_bytes = (size_t)end.bytes;
    zip->directory = bytes_read_block(reader, end.at, end.bytes, &zip->allocator, &status, error);
    if (zip->directory == NULL) return status;
    zip->room = (size_t)end.entries;
    zip->members = bytes_take(&zip->allocator, zip->room * sizeof *zip->members);
    if (zip->members == NULL) return bytes_fail_memory(error);
    for (; zip->n_members < zip->room; zip->n_members++) {
        zip_member *member = &zip->members[zip->n_members];
        unsigned flags = 0;
        memset(member, 0, sizeof *member);
        status = read_entry(zip->directory, zip->directory_bytes, &end, &at, member, &flags, error);
        if (status == MSAE_OK) {
            status = read_local(reader, end.at, flags, &zip->allocator, member, error);
        }
        if (status != MSAE_OK) return status;
    }
    if (at != end.bytes) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, end.at + at,
                          "byte %llu: more in the zip's directory than the records it claims",
                          (unsigned long long)(end.at + at));
    }
    return MSAE_OK;
}

/* Nothing lies over something else, or is there twice; leaves the members in the order of their
   names. */
static msae_status check_members(zip_file *zip, msae_error *error) {
    qsort(zip->members, zip->n_members, sizeof *zip->members, compare_places);
    for (size_t i = 1; i < zip->n_members; i++) {
        const zip_member *before = &zip->members[i - 1];
        if (zip->members[i].header < before->at + before->stored) {
            return zip_fail_member(error, &zip->members[i], "overlaps another");
        }
    }
    qsort(zip->members, zip->n_members, sizeof *zip->members, compare_names);
    for (size_t i = 1; i < zip->n_members; i++) {
        if (compare_names(&zip->members[i - 1], &zip->members[i]) == 0) {
            return zip_fail_member(error, &zip->members[i], "is there twice");
        }
    }
    return MSAE_OK;
}

msae_status zip_open(zip_file *zip, const msae_reader *reader, const msae_allocator *allocator,
                     msae_error *error) {
    msae_status status;
    memset(zip, 0, sizeof *zip);
    if (allocator != NULL) zip->allocator = *allocator;
    status = read_members(zip, reader, error);
    if (status == MSAE_OK) status = check_members(zip, error);
    if (status != MSAE_OK) zip_close(zip);
    return status;
}

void zip_close(zip_file *zip) {
    bytes_give(&zip->allocator, zip->members, zip->room * sizeof *zip->members);
    bytes_give(&zip->allocator, zip->directory, zip->directory_bytes);
    memset(zip, 0, sizeof *zip);
}

const zip_member *zip_find(const zip_file *zip, const char *folder, size_t folder_bytes,
                           const char *name, size_t name_bytes) {
    size_t low = 0, high = zip->n_members;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const zip_member *member = &zip->members[middle];
        const size_t bytes = folder_bytes + name_bytes;
        const size_t first = folder_bytes < member->name_bytes ? folder_bytes : member->name_bytes;
        const size_t common = bytes < member->name_bytes ? bytes : member->name_bytes;
        int order = memcmp(folder, member->name, first);
        if (order == 0) order = memcmp(name, member->name + first, common - first);
        if (order == 0) order = (bytes > member->name_bytes) - (bytes < member->name_bytes);
        if (order == 0) return member;
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

int zip_ends_in(const zip_member *member, const char *ending) {
    const size_t bytes = strlen(ending);
    return member->name_bytes >= bytes &&
           memcmp(member->name + member->name_bytes - bytes, ending, bytes) == 0;
}
