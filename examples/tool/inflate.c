/* Inflate. See inflate.h. */
#include "inflate.h"

#include "bytes.h"

#include <string.h>

enum {
    MAX_BITS = 15,   /* of a code */
    QUICK_BITS = 10, /* of those that are looked up at once */
    LITERALS = 288,
    DISTANCES = 30,
    END_OF_BLOCK = 256
};

/* The bits still to come, the lowest first. */
typedef struct bit_reader {
    const unsigned char *start, *at, *end;
    uint64_t held;
    unsigned count;
} bit_reader;

/* Has `count` bits in `held` if there are so many. */
static int fill(bit_reader *b, unsigned count) {
    while (b->count < count && b->at < b->end) {
        b->held |= (uint64_t)*b->at++ << b->count;
        b->count += 8;
    }
    return b->count >= count;
}

static void drop(bit_reader *b, unsigned count) {
    b->held >>= count;
    b->count -= count;
}

/* The next `count` bits, 16 at most; 0 when they are not there. */
static int take(bit_reader *b, unsigned count, unsigned *value) {
    if (!fill(b, count)) return 0;
    *value = (unsigned)(b->held & (((uint64_t)1 << count) - 1));
    drop(b, count);
    return 1;
}

/* A code: how many symbols have each length, and the symbols by length; of those of few bits also
   symbol and length by what the next bits are. */
typedef struct prefix_code {
    uint16_t counts[MAX_BITS + 1], symbols[LITERALS];
    uint16_t quick[1 << QUICK_BITS]; /* symbol << 4 | length; 0: longer */
} prefix_code;

static unsigned turned_round(unsigned bits, unsigned count) {
    unsigned turned = 0;
    for (; count > 0; count--, bits >>= 1) turned = turned << 1 | (bits & 1);
    return turned;
}

/* From the length of each symbol; 0 where lengths fit no code. Only one of a single symbol of one
   bit may leave the other bit without meaning, where that is allowed, or one of no symbols. */
static int make_code(prefix_code *code, const unsigned char *lengths, size_t n, int may_be_single) {
    uint16_t first[MAX_BITS + 2] = {0}, next[MAX_BITS + 1];
    unsigned bits = 0, used = 0;
    int left = 1;
    memset(code, 0, sizeof *code);
    for (size_t i = 0; i < n; i++) code->counts[lengths[i]]++;
    used = (unsigned)n - code->counts[0];
    code->counts[0] = 0;
    for (unsigned length = 1; length <= MAX_BITS; length++) {
        left = 2 * left - code->counts[length];
        if (left < 0) return 0;
        bits = (bits + code->counts[length - 1]) << 1;
        next[length] = (uint16_t)bits;
        first[length + 1] = (uint16_t)(first[length] + code->counts[length]);
    }
    if (left > 0 && used > 0 && !(may_be_single && used == 1 && code->counts[1] == 1)) return 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned length = lengths[i];
        if (length == 0) continue;
        code->symbols[first[length]++] = (uint16_t)i;
        const unsigned turned = turned_round(next[length]++, length);
        for (unsigned at = turned; length <= QUICK_BITS && at < 1u << QUICK_BITS;
             at += 1u << length) {
            code->quick[at] = (uint16_t)(i << 4 | length);
        }
    }
    return 1;
}

/* The next symbol; -1 when the bits end or mean none. */
static int next_symbol(bit_reader *b, const prefix_code *code) {
    int value = 0, first = 0, index = 0;
    fill(b, MAX_BITS);
    const unsigned quick = code->quick[b->held & ((1u << QUICK_BITS) - 1)];
    if (quick != 0 && (quick & 15) <= b->count) {
        drop(b, quick & 15);
        return (int)(quick >> 4);
    }
    for (unsigned length = 1; length <= MAX_BITS && length <= b->count; length++) {
        value |= (int)(b->held >> (length - 1) & 1);
        const int count = code->counts[length];
        if (value - count < first) {
            drop(b, length);
            return code->symbols[index + (value - first)];
        }
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    return -1;
}

/* Lengths and distances: the least of each symbol, and the bits that are added to it. */
static const uint16_t length_base[29] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                         15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                         67, 83, 99, 115, 131, 163, 195, 227, 258};
static const unsigned char length_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                              2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint16_t distance_base[DISTANCES] = {
    1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
    193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};

typedef struct inflation {
    bit_reader bits;
    unsigned char *out;
    size_t made, room;
    prefix_code literals, distances;
} inflation;

/* A repetition of what was made before. */
static int repeat(inflation *f, int symbol) {
    unsigned more, back;
    if (symbol >= 29 || !take(&f->bits, length_bits[symbol], &more)) return 0;
    const size_t length = (size_t)length_base[symbol] + more;
    symbol = next_symbol(&f->bits, &f->distances);
    if (symbol < 0 || symbol >= DISTANCES) return 0;
    if (!take(&f->bits, symbol < 4 ? 0 : (unsigned)symbol / 2 - 1, &back)) return 0;
    const size_t distance = (size_t)distance_base[symbol] + back;
    if (distance > f->made || length > f->room - f->made) return 0;
    for (size_t i = 0; i < length; i++, f->made++) f->out[f->made] = f->out[f->made - distance];
    return 1;
}

static int packed_block(inflation *f) {
    for (;;) {
        const int symbol = next_symbol(&f->bits, &f->literals);
        if (symbol < 0) return 0;
        if (symbol == END_OF_BLOCK) return 1;
        if (symbol > END_OF_BLOCK) {
            if (!repeat(f, symbol - END_OF_BLOCK - 1)) return 0;
        } else if (f->made == f->room) {
            return 0;
        } else {
            f->out[f->made++] = (unsigned char)symbol;
        }
    }
}

static int stored_block(inflation *f) {
    bit_reader *b = &f->bits;
    unsigned length, inverse;
    drop(b, b->count % 8);
    if (!take(b, 16, &length) || !take(b, 16, &inverse) || length != (~inverse & 0xffff)) return 0;
    while (length > 0 && b->count > 0) {
        if (f->made == f->room) return 0;
        f->out[f->made++] = (unsigned char)b->held;
        drop(b, 8);
        length--;
    }
    if (length > (size_t)(b->end - b->at) || length > f->room - f->made) return 0;
    memcpy(f->out + f->made, b->at, length);
    f->made += length;
    b->at += length;
    return 1;
}

static int fixed_codes(inflation *f) {
    unsigned char lengths[LITERALS];
    for (int i = 0; i < LITERALS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    if (!make_code(&f->literals, lengths, LITERALS, 0)) return 0;
    memset(lengths, 5, 32);
    return make_code(&f->distances, lengths, 32, 0);
}

/* The codes of a block, whose lengths are written by a code of their own. */
static int own_codes(inflation *f) {
    static const unsigned char order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                            11, 4,  12, 3, 13, 2, 14, 1, 15};
    unsigned char lengths[LITERALS + 32] = {0};
    unsigned literals, distances, count, value;
    if (!take(&f->bits, 5, &literals) || !take(&f->bits, 5, &distances) ||
        !take(&f->bits, 4, &count)) {
        return 0;
    }
    literals += 257, distances += 1, count += 4;
    if (literals > 286 || distances > DISTANCES) return 0;
    for (unsigned i = 0; i < count; i++) {
        if (!take(&f->bits, 3, &value)) return 0;
        lengths[order[i]] = (unsigned char)value;
    }
    if (!make_code(&f->literals, lengths, 19, 0)) return 0;
    memset(lengths, 0, 19);
    for (unsigned i = 0; i < literals + distances;) {
        const int symbol = next_symbol(&f->bits, &f->literals);
        unsigned char length = 0;
        unsigned times = 1;
        if (symbol < 0) return 0;
        if (symbol < 16) {
            length = (unsigned char)symbol;
        } else {
            if (!take(&f->bits, symbol == 16 ? 2 : symbol == 17 ? 3 : 7, &times)) return 0;
            times += symbol == 18 ? 11 : 3;
            if (symbol == 16 && i == 0) return 0;
            if (symbol == 16) length = lengths[i - 1];
        }
        if (times > literals + distances - i) return 0;
        while (times-- > 0) lengths[i++] = length;
    }
    return lengths[END_OF_BLOCK] != 0 && make_code(&f->literals, lengths, literals, 1) &&
           make_code(&f->distances, lengths + literals, distances, 1);
}

static int inflate_all(inflation *f) {
    unsigned last = 0, kind;
    while (!last) {
        if (!take(&f->bits, 1, &last) || !take(&f->bits, 2, &kind)) return 0;
        if (kind == 0) {
            if (!stored_block(f)) return 0;
        } else if (kind == 3 || !(kind == 1 ? fixed_codes(f) : own_codes(f)) || !packed_block(f)) {
            return 0;
        }
    }
    return f->made == f->room && f->bits.at == f->bits.end && f->bits.count < 8;
}

msae_status inflate_bytes(const unsigned char *bytes, size_t size, unsigned char *out,
                          size_t out_size, msae_error *error) {
    inflation f;
    memset(&f, 0, sizeof f);
    f.bits.start = f.bits.at = bytes;
    f.bits.end = bytes + size;
    f.out = out;
    f.room = out_size;
    if (inflate_all(&f)) return MSAE_OK;
    return bytes_fail(error, MSAE_ERROR_FORMAT, (uint64_t)(f.bits.at - f.bits.start),
                      "the compressed bytes do not make sense (byte %llu of them)",
                      (unsigned long long)(f.bits.at - f.bits.start));
}
