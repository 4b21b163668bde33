/* torch.save files: values and tensors as they were saved; every rule of the zip and of the pickle
   that a file breaks has a message of its own; what is written is read again. */
#include "test.h"

#include "../examples/tool/bytes.c"
#include "../examples/tool/zip.c"
#include "../examples/tool/torch.c"

/* ---------------------------------------------------------------------------------------------
   Zips in the making
   ------------------------------------------------------------------------------------------ */

typedef struct archive {
    buffer bytes, directory;
    size_t records;
} archive;

/* What a record gets besides its name and data. */
enum { PLAIN = 0, WITH_DESCRIPTOR = 1, WITH_ZIP64 = 2 };

/* The slow way, as the definition has it. */
static uint32_t slow_crc(const unsigned char *data, size_t size) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void add_record(archive *z, const char *name, const void *data, size_t size, int how) {
    const size_t start = z->bytes.size, extra = how & WITH_ZIP64 ? 20 : 0;
    const uint32_t crc = slow_crc((const unsigned char *)data, size);
    const uint64_t shown_size = how & WITH_ZIP64 ? 0xffffffffu : size;
    for (int local = 1; local >= 0; local--) {
        buffer *b = local ? &z->bytes : &z->directory;
        const int later = local && how & WITH_DESCRIPTOR;
        add_number(b, 4, local ? ZIP_LOCAL : ZIP_ENTRY);
        if (!local) add_number(b, 2, 0);
        add_number(b, 2, 0);
        add_number(b, 2, how & WITH_DESCRIPTOR ? ZIP_FLAG_DESCRIPTOR : 0);
        add_number(b, 6, 0);
        add_number(b, 4, later ? 0 : crc);
        add_number(b, 4, later ? 0 : shown_size);
        add_number(b, 4, later ? 0 : shown_size);
        add_number(b, 2, strlen(name));
        add_number(b, 2, extra);
        if (!local) add_number(b, 8, 0);
        if (!local) add_number(b, 2, 0);
        if (!local) add_number(b, 4, start);
        add_words(b, name);
        if (extra > 0) {
            add_number(b, 2, 1);
            add_number(b, 2, 16);
            add_number(b, 8, size);
            add_number(b, 8, size);
        }
    }
    add(&z->bytes, data, size);
    if (how & WITH_DESCRIPTOR) {
        add_number(&z->bytes, 4, ZIP_DESCRIPTOR);
        add_number(&z->bytes, 4, crc);
        add_number(&z->bytes, 4, size);
        add_number(&z->bytes, 4, size);
    }
    z->records++;
}

static void finish_archive(archive *z, int zip64) {
    const size_t start = z->bytes.size, size = z->directory.size;
    add(&z->bytes, z->directory.bytes, size);
    if (zip64) {
        const size_t at = z->bytes.size;
        add_number(&z->bytes, 4, ZIP_END64);
        add_number(&z->bytes, 8, 44);
        add_number(&z->bytes, 4, 0);
        add_number(&z->bytes, 8, 0);
        add_number(&z->bytes, 8, z->records);
        add_number(&z->bytes, 8, z->records);
        add_number(&z->bytes, 8, size);
        add_number(&z->bytes, 8, start);
        add_number(&z->bytes, 4, ZIP_LOCATOR);
        add_number(&z->bytes, 4, 0);
        add_number(&z->bytes, 8, at);
        add_number(&z->bytes, 4, 1);
    }
    add_number(&z->bytes, 4, ZIP_END);
    add_number(&z->bytes, 4, 0);
    add_number(&z->bytes, 2, zip64 ? 0xffff : z->records);
    add_number(&z->bytes, 2, zip64 ? 0xffff : z->records);
    add_number(&z->bytes, 4, zip64 ? 0xffffffffu : size);
    add_number(&z->bytes, 4, zip64 ? 0xffffffffu : start);
    add_number(&z->bytes, 2, 0);
}

static void free_archive(archive *z) {
    free(z->bytes.bytes);
    free(z->directory.bytes);
    memset(z, 0, sizeof *z);
}

/* The storages beside every pickle: 16 floats 0 .. 15, 8 bytes, none. */
static archive archive_of(const void *pickle, size_t size, int how, int zip64) {
    archive z;
    float numbers[16];
    unsigned char bytes[64];
    memset(&z, 0, sizeof z);
    for (int i = 0; i < 16; i++) numbers[i] = (float)i;
    test_copy_le(bytes, numbers, 16);
    add_record(&z, "a/data.pkl", pickle, size, how);
    add_record(&z, "a/data/0", bytes, 64, how);
    add_record(&z, "a/data/1", "\x00\x3c\x00\xc0\xff\x7b\x01\x00", 8, how);
    add_record(&z, "a/data/2", "", 0, how);
    add_record(&z, "a/version", "3\n", 2, how);
    finish_archive(&z, zip64);
    return z;
}

static msae_status open_bytes(torch_file *file, msae_reader *reader, const void *bytes, size_t size,
                              msae_error *error) {
    *reader = msae_from_memory(bytes, size);
    memset(error, 0, sizeof *error);
    return torch_open(file, reader, 0, NULL, error);
}

static void check_refused(const void *bytes, size_t size, const char *message) {
    torch_file file;
    msae_reader reader;
    msae_error error;
    test_note("%s", message);
    if (!CHECK(open_bytes(&file, &reader, bytes, size, &error) != MSAE_OK)) torch_close(&file);
    if (!CHECK(strstr(error.message, message) != NULL)) printf("  it said: %s\n", error.message);
    CHECK(error.position <= size);
    CHECK(file.pool == NULL && file.zip.members == NULL && file.zip.directory == NULL);
}

/* ---------------------------------------------------------------------------------------------
   Pickles, spelled as torch.save spells them
   ------------------------------------------------------------------------------------------ */

#define DICT "ccollections\nOrderedDict\n)R"
#define TEXT(bytes, text) "X" bytes "\0\0\0" text
#define KEYED(type, key, elements) \
    "(" TEXT("\x07", "storage") "c" type "\n" TEXT("\x01", key) TEXT("\x03", "cpu") elements "tQ"
#define STORAGE(type, key, elements) KEYED("torch\n" type "Storage", key, elements)
#define FLOATS STORAGE("Float", "0", "K\x10")
#define TENSOR(storage, offset, size, stride) \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride "\x89" DICT "tR"
#define NUMPY "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
#define DTYPE(name) TEXT("\x02", name) "\x89\x88\x87R"
#define STATE(order) "(K\x03" TEXT("\x01", order) "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"

typedef struct pickle_case {
    const char *bytes;
    size_t size;
    const char *message;
} pickle_case;

#define REFUSED(bytes, message) \
    { bytes, sizeof(bytes) - 1, message }

static const pickle_case refused_pickles[] = {
    REFUSED("\x80\x02"
            "cos\nsystem\n" TEXT("\x02", "ls") "\x85R.",
            "data.pkl: byte 2: the global os.system is not allowed (of a whole model save "
            "model.state_dict())"),
    REFUSED("\x80\x04\x8c\x02os\x8c\x06system\x93.",
            "data.pkl: byte 14: the global os.system is not allowed"),
    REFUSED("\x80\x02"
            "cbuiltins\neval\n.",
            "the global builtins.eval is not allowed"),
    REFUSED("\x80\x02"
            "ctorch\nload\n.",
            "the global torch.load is not allowed"),
    REFUSED("\x80\x02"
            "c\x1b[31m\n\xff\n.",
            "the global ?[31m.? is not allowed"),
    REFUSED("\x80\x02(S'ls'\nios\nsystem\n.", "byte 3: the opcode 0x53 is not allowed"),
    REFUSED("\x80\x02(ios\nsystem\n.", "the opcode 0x69 is not allowed"),
    REFUSED("\x80\x02NN\x81.", "the opcode 0x81 is not allowed"),
    REFUSED("\x80\x02\x82\x01.", "the opcode 0x82 is not allowed"),
    REFUSED("\x80\x06N.", "pickle protocol 6; 2 to 5 are known"),
    REFUSED("N.", "no pickle of protocol 2 to 5"),
    REFUSED("", "no pickle of protocol 2 to 5"),
    REFUSED("\x80\x02N", "byte 3: the pickle ends without a STOP"),
    REFUSED("\x80\x02N.N.", "2 bytes behind STOP"),
    REFUSED("\x80\x02NN.", "STOP with 2 values on the stack"),
    REFUSED("\x80\x02.", "STOP with 0 values on the stack"),
    REFUSED("\x80\x02N(.", "STOP with 1 values on the stack"),
    REFUSED("\x80\x02R.", "the stack has too few values"),
    REFUSED("\x80\x02N(\x85.", "the stack has too few values"),
    REFUSED("\x80\x02Nt.", "there is no mark"),
    REFUSED("\x80\x02h\x05.", "memo 5 was never put"),
    REFUSED("\x80\x02Nq\x01j\x03\0\0\0.", "memo 3 was never put"),
    REFUSED("\x80\x02Nr\xff\xff\xff\xff.", "memo 4294967295 of so short a pickle"),
    REFUSED("\x80\x02J\x01.", "the pickle ends inside an opcode"),
    REFUSED("\x80\x02"
            "cos\nsystem.",
            "the pickle ends inside an opcode"),
    REFUSED("\x80\x02X\xff\xff\xff\xffls.", "a text of 4294967295 bytes where 3 are left"),
    REFUSED("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffls.",
            "a text of 18446744073709551615 bytes where 3 are left"),
    REFUSED("\x80\x02X\x02\0\0\0\xc3(.", "a text that is no UTF-8"),
    REFUSED("\x80\x02\x8a\x09\1\2\3\4\5\6\7\x08\x09.", "a number of more than 64 bits"),
    REFUSED("\x80\x04\x95\xff\0\0\0\0\0\0\0N.", "a frame that is longer than the pickle"),
    REFUSED("\x80\x02}NNs.", "a key that is no text and no whole number"),
    REFUSED("\x80\x02}(" TEXT("\x01", "k") "N" TEXT("\x01", "k") "Nu.",
            "the key 'k' is twice in a dict"),
    REFUSED("\x80\x02}(K\x01NK\x01Nu.", "the key 1 is twice in a dict"),
    REFUSED("\x80\x02}(K\x01u.", "a key without a value"),
    REFUSED("\x80\x02}K\x01"
            "a.",
            "items for what is no list"),
    REFUSED("\x80\x02]K\x01Ns.", "keys for what is no dict"),
    REFUSED("\x80\x02]q\0h\0a.", "a value changes after it was put into another (or into itself)"),
    REFUSED("\x80\x02]q\0]h\0ah\0Na.", "a value changes after it was put into another"),
    REFUSED("\x80\x02]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.",
            "more than 32 values inside each other"),
    REFUSED("\x80\x02](NNNNNNNNeq\0](h\0h\0h\0h\0h\0h\0h\0h\0eq\1](h\1h\1h\1h\1h\1h\1h\1h\1"
            "e.",
            "values that unfold to more than the pickle's 56 bytes"),
    REFUSED("\x80\x02N)R.", "a call of what is no global"),
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\nNR.",
            "a call without a tuple of arguments"),
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\n]\x85R.",
            "an OrderedDict with arguments"),
    REFUSED("\x80\x02"
            "ctorch\nFloatStorage\n)R.",
            "a call of torch.FloatStorage"),
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\n.",
            "a global where a value should be"),
    REFUSED("\x80\x02]ccollections\nOrderedDict\na.", "a global where a value should be"),
    REFUSED("\x80\x02]" FLOATS "\x85"
            "a.",
            "a global where a value should be"),
    REFUSED("\x80\x04NN\x93.", "a global whose name is no text"),
    REFUSED("\x80\x02NQ.", "a persistent id that is no storage"),
    REFUSED("\x80\x02(" TEXT("\x07", "storage") "N" TEXT("\x01", "0")
                TEXT("\x03", "cpu") "K\x10tQ.",
            "a storage of no known type"),
    REFUSED("\x80\x02" KEYED("torch\nSize", "0", "K\x10") ".", "a storage of no known type"),
    REFUSED("\x80\x02" STORAGE("Float", "0", "J\xff\xff\xff\xff") ".",
            "a storage whose key, location or size is malformed"),
    REFUSED("\x80\x02" STORAGE("Float", "7", "K\x10") ".", "there is no record data/7"),
    REFUSED("\x80\x02" STORAGE("Float", "0", "K\x0f") ".",
            "a storage of 15 elements of 4 bytes; the record data/0 has 64"),
    REFUSED("\x80\x02" STORAGE("Double", "0", "\x8a\x08\0\0\0\0\0\0\0\x20") ".",
            "a storage of 2305843009213693952 elements of 8 bytes; the record data/0 has 64"),
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\nN\x85R.",
            "a tensor with arguments that are not understood"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0", "K\x02K\x03\x86", "K\x01\x85") ".",
            "a tensor of 2 dimensions with 1 strides"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "J\xff\xff\xff\xff", "K\x02\x85", "K\x01\x85") ".",
            "a tensor whose offset is negative or no number"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0", "J\xff\xff\xff\xff\x85", "K\x01\x85") ".",
            "a tensor with a size that is negative or no number"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0", "K\x02\x85", "J\xff\xff\xff\xff\x85") ".",
            "a tensor with a stride that is negative or no number"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\x01", "K\x02K\x08\x86", "K\x08K\x01\x86") ".",
            "a tensor that reaches beyond its storage of 16 elements"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0", "K\x02\x85", "K\x10\x85") ".",
            "a tensor that reaches beyond its storage of 16 elements"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\x11", "K\0\x85", "K\x01\x85") ".",
            "a tensor that reaches beyond its storage of 16 elements"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0", "K\x05\x85", "\x8a\x08\0\0\0\0\0\0\0\x7f\x85") ".",
            "a tensor that reaches beyond its storage of 16 elements"),
    REFUSED("\x80\x02" TENSOR(FLOATS, "K\0",
                              "\x8a\x08\0\0\0\0\0\0\0\x01\x8a\x08\0\0\0\0\0\0\0\x01\x86",
                              "K\0K\0\x86") ".",
            "a tensor with more elements than can be counted"),
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_parameter\nN\x88" DICT "\x87R.",
            "a parameter with arguments that are not understood"),
    REFUSED("\x80\x02"
            "ctorch\nSize\nN\x85R.",
            "a torch.Size of what is no tuple"),
    REFUSED("\x80\x02"
            "c_codecs\nencode\n" TEXT("\x01", "a") TEXT("\x05", "utf16") "\x86R.",
            "_codecs.encode of something else than a text as latin1"),
    REFUSED("\x80\x02"
            "c_codecs\nencode\n" TEXT("\x03", "\xe2\x82\xac") TEXT("\x06", "latin1") "\x86R.",
            "a character that latin1 does not have"),
    REFUSED("\x80\x02"
            "cnumpy\ndtype\nN\x85R.",
            "a numpy.dtype without a name"),
    REFUSED("\x80\x02"
            "cnumpy\ndtype\n" DTYPE("O8") ".",
            "the numpy.dtype 'O8' is not allowed"),
    REFUSED("\x80\x02"
            "cnumpy\ndtype\n" DTYPE("f8") STATE(">") ".",
            "a numpy.dtype that is not little-endian"),
    REFUSED("\x80\x02"
            "cnumpy\ndtype\n" DTYPE("f8") "Nb.",
            "a numpy.dtype whose state is malformed"),
    REFUSED("\x80\x03" NUMPY DTYPE("f8") STATE("<") "C\x04zzzz\x86R.",
            "a numpy scalar whose bytes do not fit its dtype"),
    REFUSED("\x80\x03" NUMPY DTYPE("u8") STATE("<") "C\x08\xff\xff\xff\xff\xff\xff\xff\xff\x86R.",
            "a number of more than 64 bits"),
    REFUSED("\x80\x02]}b.", "state for what is no OrderedDict"),
    REFUSED("\x80\x02" DICT "Nb.", "an OrderedDict whose state is no dict"),
    REFUSED("\x80\x02" DICT "}b}b.", "state for what has it already"),
    REFUSED("\x80\x02" DICT "}bK\x01Ns.", "an OrderedDict that grows after its state"),
};

static void hostile_pickles(void) {
    for (size_t i = 0; i < COUNT(refused_pickles); i++) {
        const pickle_case *c = &refused_pickles[i];
        archive z = archive_of(c->bytes, c->size, PLAIN, 0);
        check_refused(z.bytes.bytes, z.bytes.size, c->message);
        free_archive(&z);
    }
}

/* ---------------------------------------------------------------------------------------------
   Zips
   ------------------------------------------------------------------------------------------ */

/* 0 local header of a/data.pkl, 40 its 4 bytes, 44 that of a/data/0, 82 its 8 bytes, 90 the directory
   with entries at 90 and 146, 200 the end record. */
static archive small_archive(void) {
    archive z;
    memset(&z, 0, sizeof z);
    add_record(&z, "a/data.pkl", "\x80\x02N.", 4, PLAIN);
    add_record(&z, "a/data/0", "12345678", 8, PLAIN);
    finish_archive(&z, 0);
    return z;
}

/* Bytes put in place of those of the small archive, up to three times. */
typedef struct patch {
    size_t at;
    const char *bytes;
    size_t size;
} patch;

#define AT(at, bytes) \
    { at, bytes, sizeof(bytes) - 1 }

static const struct {
    patch patches[4];
    const char *message;
} refused_zips[] = {
    {{AT(0, "QK")}, "is no zip, as torch.save writes them"},
    {{AT(0, "\x80\x02\x8a\x0a")}, "is in torch.save's old format"},
    {{AT(200, "QK")}, "byte 200: the zip's end record is not there"},
    {{AT(220, "\x01")}, "the zip's end record is not there"},
    {{AT(204, "\x01")}, "a zip of several volumes"},
    {{AT(208, "\x09\0\x09")}, "the zip claims 9 records, its directory has 110 bytes"},
    {{AT(208, "\x01\0\x01")}, "byte 146: more in the zip's directory than the records it claims"},
    {{AT(212, "\x6d")}, "directory does not end where its end record starts"},
    {{AT(216, "\xff\xff\xff\xff")}, "directory does not end where its end record starts"},
    {{AT(90, "QK")}, "byte 90: no record's entry in the zip's directory"},
    {{AT(119, "\xff")}, "an entry that the zip's directory has no room for"},
    {{AT(136, "\n")}, "the record  .. has a control character in its name"},
    {{AT(98, "\x01")}, "the record a/data.pkl is encrypted"},
    {{AT(98, "\x20")}, "the record a/data.pkl has unknown flags"},
    {{AT(100, "\x08"), AT(8, "\x08")}, "the record a/data.pkl is compressed; torch.save stores"},
    {{AT(100, "\x09"), AT(8, "\x09")}, "the record a/data.pkl is compressed, and not by deflate"},
    {{AT(100, "\x08")}, "the record a/data.pkl differs from its local header"},
    {{AT(124, "\x01")}, "the record a/data.pkl is on another volume"},
    {{AT(114, "\x05")}, "the record a/data.pkl has another size stored than uncompressed"},
    {{AT(110, "\xff\xff\xff\xff\xff\xff\xff\xff")}, "the record a/data.pkl has a malformed extra"},
    {{AT(132, "\xff")}, "the record a/data.pkl would start behind the zip's records"},
    {{AT(44, "QK")}, "byte 44: the record a/data/0 has no local header of its name"},
    {{AT(30, "b")}, "the record a/data.pkl has no local header of its name"},
    {{AT(110, "\0\x01\0\0\0\x01\0\0")}, "the record a/data.pkl is larger than the zip"},
    {{AT(14, "\0\0")}, "the record a/data.pkl differs from its local header"},
    {{AT(18, "\x05")}, "the record a/data.pkl differs from its local header"},
    {{AT(8, "\x08")}, "the record a/data.pkl differs from its local header"},
    {{AT(6, "\x08")}, "the record a/data.pkl differs from its local header"},
    {{AT(6, "\x08"), AT(98, "\x08")}, "the record a/data.pkl differs from the descriptor behind"},
    {{AT(18, "\x32\0\0\0\x32"), AT(110, "\x32\0\0\0\x32")}, "the record a/data/0 overlaps another"},
    {{AT(42, "]")}, "the record a/data.pkl does not match its checksum"},
    {{AT(37, "x"), AT(143, "x")}, "is a zip without a data.pkl"},
};

static void hostile_zips(void) {
    for (size_t i = 0; i < COUNT(refused_zips); i++) {
        archive z = small_archive();
        for (size_t p = 0; p < 4 && refused_zips[i].patches[p].size > 0; p++) {
            const patch *change = &refused_zips[i].patches[p];
            memcpy(z.bytes.bytes + change->at, change->bytes, change->size);
        }
        check_refused(z.bytes.bytes, z.bytes.size, refused_zips[i].message);
        free_archive(&z);
    }
}

/* Records that a file of torch.save does not have. */
static void other_records(void) {
    static const struct {
        const char *name, *data, *message;
    } records[] = {
        {"a/data.pkl", "", "the record a/data.pkl is there twice"},
        {"b/data.pkl", "", "the record b/data.pkl is a second pickle"},
        {"a/constants.pkl", "", "makes it TorchScript"},
        {"a/byteorder", "big", "says big: only little-endian files are read"},
        {"a/byteorder", "middle", "the record a/byteorder does not say little"},
        {"a/byteorder", "little, but at length", "is longer than a byte order"},
    };
    for (size_t i = 0; i < COUNT(records); i++) {
        archive z;
        memset(&z, 0, sizeof z);
        add_record(&z, "a/data.pkl", "\x80\x02N.", 4, PLAIN);
        add_record(&z, records[i].name, records[i].data, strlen(records[i].data), PLAIN);
        finish_archive(&z, 0);
        check_refused(z.bytes.bytes, z.bytes.size, records[i].message);
        free_archive(&z);
    }
}

/* The 98 bytes of a zip64 end: each field that says something else than the truth. */
static void hostile_zip64(void) {
    static const struct {
        size_t from_end;
        const char *message;
    } fields[] = {
        {98, "the zip64 end record is malformed"}, /* signature */
        {94, "the zip64 end record is malformed"}, /* its size */
        {82, "the zip64 end record is malformed"}, /* volume */
        {74, "the zip64 end record is malformed"}, /* records here, unlike all records */
        {58, "does not end where its end record"}, /* size of the directory */
        {50, "does not end where its end record"}, /* where it is */
        {38, "the zip64 end record is malformed"}, /* the locator's volume */
        {34, "the zip64 end record is malformed"}, /* where the locator points to */
        {26, "the zip64 end record is malformed"}, /* number of volumes */
        {14, "the zip's two end records differ"},  /* records, in the old end record */
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        archive z = archive_of("\x80\x02N.", 4, WITH_ZIP64, 1);
        unsigned char *at = z.bytes.bytes + z.bytes.size - fields[i].from_end;
        if (fields[i].from_end == 14) {
            bytes_put(at, 2, 7);
            bytes_put(at + 2, 2, 7);
        } else {
            at[0] ^= 1;
        }
        check_refused(z.bytes.bytes, z.bytes.size, fields[i].message);
        free_archive(&z);
    }
}

/* A file cut anywhere is refused, and one with any byte changed never does harm. */
static void cut_and_changed(void) {
    static const char pickle[] = "\x80\x02" DICT "(" TEXT("\x01", "w")
        TENSOR(FLOATS, "K\x01", "K\x02K\x03\x86", "K\x01K\x02\x86") "u.";
    for (int how = 0; how < 4; how++) {
        archive z = archive_of(pickle, sizeof pickle - 1, how, how % 2);
        torch_file file;
        msae_reader reader;
        msae_error error;
        for (size_t size = 0; size < z.bytes.size; size++) {
            unsigned char *cut = (unsigned char *)test_alloc(size);
            memcpy(cut, z.bytes.bytes, size);
            test_note("%d bytes, kind %d", (int)size, how);
            CHECK(open_bytes(&file, &reader, cut, size, &error) != MSAE_OK);
            free(cut);
        }
        for (size_t i = 0; i < z.bytes.size; i++) {
            for (int bit = 0; bit < 8; bit += 3) {
                z.bytes.bytes[i] ^= (unsigned char)(1 << bit);
                if (open_bytes(&file, &reader, z.bytes.bytes, z.bytes.size, &error) == MSAE_OK) {
                    const torch_value *w = torch_find(file.root, "w");
                    float out[64];
                    if (w != NULL && w->kind == TORCH_TENSOR && w->as.tensor->elements <= 64) {
                        torch_read(&reader, w->as.tensor, MSAE_F32, out, NULL, &error);
                    }
                    torch_close(&file);
                }
                z.bytes.bytes[i] ^= (unsigned char)(1 << bit);
            }
        }
        free_archive(&z);
    }
}

/* ---------------------------------------------------------------------------------------------
   What is read
   ------------------------------------------------------------------------------------------ */

static void check_numbers(const char *pickle, size_t size, const double *wanted, size_t count,
                          msae_dtype dtype) {
    for (int how = 0; how < 4; how++) {
        archive z = archive_of(pickle, size, how, how / 2);
        torch_file file;
        msae_reader reader;
        msae_error error;
        double got[32] = {0};
        float floats[32] = {0};
        test_note("%s, kind %d", msae_enum_name(MSAE_ENUM_DTYPE, (int)dtype), how);
        if (CHECK_STATUS(MSAE_OK,
                         open_bytes(&file, &reader, z.bytes.bytes, z.bytes.size, &error)) &&
            CHECK(file.root->kind == TORCH_TENSOR)) {
            const torch_tensor *tensor = file.root->as.tensor;
            CHECK(tensor->dtype == dtype && tensor->elements == count);
            CHECK_STATUS(MSAE_OK, torch_read(&reader, tensor, MSAE_F64, got, NULL, &error));
            CHECK_STATUS(MSAE_OK, torch_read(&reader, tensor, MSAE_F32, floats, NULL, &error));
            for (size_t i = 0; i < count; i++) {
                CHECK(got[i] == wanted[i] && floats[i] == (float)wanted[i]);
            }
        } else {
            printf("  it said: %s\n", error.message);
        }
        torch_close(&file);
        free_archive(&z);
    }
}

#define CHECK_NUMBERS(pickle, dtype, ...)                                               \
    do {                                                                                \
        const double wanted[] = {__VA_ARGS__};                                          \
        check_numbers("\x80\x02" pickle ".", sizeof("\x80\x02" pickle ".") - 1, wanted, \
                      COUNT(wanted), dtype);                                            \
    } while (0)

static void tensors_of_every_kind(void) {
    CHECK_NUMBERS(TENSOR(FLOATS, "K\x02", "K\x03\x85", "K\x01\x85"), MSAE_F32, 2, 3, 4);
    CHECK_NUMBERS(TENSOR(FLOATS, "K\x07", ")", ")"), MSAE_F32, 7);
    /* transposed, every second one, expanded, three dimensions turned round */
    CHECK_NUMBERS(TENSOR(FLOATS, "K\x01", "K\x02K\x03\x86", "K\x01K\x02\x86"), MSAE_F32, 1, 3, 5, 2,
                  4, 6);
    CHECK_NUMBERS(TENSOR(FLOATS, "K\0", "K\x04\x85", "K\x05\x85"), MSAE_F32, 0, 5, 10, 15);
    CHECK_NUMBERS(TENSOR(FLOATS, "K\x09", "K\x02K\x02\x86", "K\0K\0\x86"), MSAE_F32, 9, 9, 9, 9);
    CHECK_NUMBERS(TENSOR(FLOATS, "K\0", "K\x02K\x01K\x03\x87", "K\x01K\x07K\x04\x87"), MSAE_F32, 0,
                  4, 8, 1, 5, 9);
    CHECK_NUMBERS(TENSOR(STORAGE("Half", "1", "K\x04"), "K\0", "K\x04\x85", "K\x01\x85"), MSAE_F16,
                  1, -2, 65504, 1.0 / 16777216);
    CHECK_NUMBERS(TENSOR(STORAGE("BFloat16", "1", "K\x04"), "K\x01", "K\x01\x85", "K\x01\x85"),
                  MSAE_BF16, -2);
    CHECK_NUMBERS(TENSOR(STORAGE("Long", "1", "K\x01"), "K\0", ")", ")"), MSAE_I64,
                  (double)0x00017bffc0003c00);
    CHECK_NUMBERS(TENSOR(STORAGE("Int", "1", "K\x02"), "K\0", "K\x02\x85", "K\x01\x85"), MSAE_I32,
                  (double)(int32_t)0xc0003c00, 0x00017bff);
    CHECK_NUMBERS(TENSOR(STORAGE("Short", "1", "K\x04"), "K\0", "K\x02\x85", "K\x01\x85"), MSAE_I16,
                  0x3c00, -0x4000);
    CHECK_NUMBERS(TENSOR(STORAGE("Char", "1", "K\x08"), "K\x03", "K\x02\x85", "K\x01\x85"), MSAE_I8,
                  -64, -1);
    CHECK_NUMBERS(TENSOR(STORAGE("Byte", "1", "K\x08"), "K\x03", "K\x02\x85", "K\x01\x85"), MSAE_U8,
                  192, 255);
    CHECK_NUMBERS(TENSOR(STORAGE("Bool", "1", "K\x08"), "K\0", "K\x02\x85", "K\x01\x85"), MSAE_BOOL,
                  0, 1);
    CHECK_NUMBERS(TENSOR(KEYED("torch.storage\nUntypedStorage", "1", "K\x08"), "K\0", "K\x02\x85",
                         "K\x01\x85"),
                  MSAE_U8, 0, 0x3c);
    CHECK_NUMBERS("ctorch._utils\n_rebuild_parameter\n" TENSOR(FLOATS, "K\0", "K\x02\x85",
                                                               "K\x01\x85") "\x88" DICT "\x87R",
                  MSAE_F32, 0, 1);
    /* none, in a storage of none */
    static const char empty[] = "\x80\x02" TENSOR(STORAGE("Float", "2", "K\0"), "K\0",
                                                  "K\0K\x05\x86", "K\x05K\x01\x86") ".";
    check_numbers(empty, sizeof empty - 1, NULL, 0, MSAE_F32);
}

/* One of each kind, and a state dict's _metadata. */
static void values_of_every_kind(void) {
    static const char pickle[] =
        "\x80\x04\x95\x10\0\0\0\0\0\0\0" DICT "(" TEXT("\x01", "n") "N" TEXT("\x01", "t") "\x88" TEXT("\x01", "i") "J\xff\xff\xff\xff" TEXT("\x01", "j") "M\x01\x02" TEXT("\x01", "l") "\x8a\x03\x00\x00\x80" TEXT(
            "\x01",
            "z") "\x8a\0" TEXT("\x01",
                               "r") "G\x3f\xf8\0\0\0\0\0\0" TEXT("\x01",
                                                                 "s") "\x8c\x03"
                                                                      "a\0b\x94" TEXT("\x01", "b") "B\x02\0\0\0xy" TEXT(
                                                                          "\x01",
                                                                          "e") "](K\x01K\x02"
                                                                               "e" TEXT("\x01", "u") "K\x01K\x02K\x03\x87" TEXT(
                                                                                   "\x01",
                                                                                   "S") "ctorch\nSi"
                                                                                        "ze\nK\x04"
                                                                                        "\x85\x85"
                                                                                        "R" TEXT("\x01", "D") "ctorch\nbfloat16\n" TEXT(
                                                                                            "\x01",
                                                                                            "d") NUMPY DTYPE("f8")
                                                                                            STATE("<") "C\x08\0\0\0\0\0\0\x04\x40\x86R" TEXT(
                                                                                                "\x01",
                                                                                                "q") NUMPY DTYPE("i8")
                                                                                                STATE("<") "C\x08\xfe\xff\xff\xff\xff\xff\xff\xff\x86R" TEXT(
                                                                                                    "\x01",
                                                                                                    "c") "h\0"
                                                                                                         "u}" TEXT(
                                                                                                             "\x09",
                                                                                                             "_metadata")
                                                                                                             DICT
        "sb.";
    archive z = archive_of(pickle, sizeof pickle - 1, PLAIN, 0);
    torch_file file;
    msae_reader reader;
    msae_error error;
    const torch_value *v;
    if (!CHECK_STATUS(MSAE_OK, open_bytes(&file, &reader, z.bytes.bytes, z.bytes.size, &error))) {
        printf("  it said: %s\n", error.message);
        free_archive(&z);
        return;
    }
    CHECK(file.root->kind == TORCH_DICT && file.root->count == 16);
    CHECK(torch_find(file.root, "n")->kind == TORCH_NONE);
    v = torch_find(file.root, "t");
    CHECK(v->kind == TORCH_BOOL && v->as.integer == 1);
    CHECK(torch_find(file.root, "i")->as.integer == -1);
    CHECK(torch_find(file.root, "j")->as.integer == 513);
    CHECK(torch_find(file.root, "l")->as.integer == -8388608);
    CHECK(torch_find(file.root, "z")->as.integer == 0);
    v = torch_find(file.root, "r");
    CHECK(v->kind == TORCH_REAL && v->as.real == 1.5 && !v->is_numpy);
    v = torch_find(file.root, "s");
    CHECK(v->kind == TORCH_TEXT && v->count == 3 && memcmp(v->as.text, "a\0b", 4) == 0);
    CHECK(torch_find(file.root, "c") == v);
    v = torch_find(file.root, "b");
    CHECK(v->kind == TORCH_BYTES && v->count == 2);
    v = torch_find(file.root, "e");
    CHECK(v->kind == TORCH_LIST && v->count == 2 && v->as.items[1]->as.integer == 2);
    v = torch_find(file.root, "u");
    CHECK(v->kind == TORCH_TUPLE && v->count == 3 && v->as.items[2]->as.integer == 3);
    v = torch_find(file.root, "S");
    CHECK(v->kind == TORCH_TUPLE && v->count == 1 && v->as.items[0]->as.integer == 4);
    v = torch_find(file.root, "D");
    CHECK(v->kind == TORCH_DTYPE && v->as.dtype == MSAE_BF16);
    v = torch_find(file.root, "d");
    CHECK(v->kind == TORCH_REAL && v->as.real == 2.5 && v->is_numpy);
    v = torch_find(file.root, "q");
    CHECK(v->kind == TORCH_INT && v->as.integer == -2 && v->is_numpy);
    CHECK(torch_find(file.root, "x") == NULL && torch_find(v, "n") == NULL);
    torch_close(&file);
    free_archive(&z);
}

/* ---------------------------------------------------------------------------------------------
   What is written
   ------------------------------------------------------------------------------------------ */

static int write_buffer(void *user, const void *bytes, size_t size) {
    add((buffer *)user, bytes, size);
    return 1;
}

static int write_some(void *user, const void *bytes, size_t size) {
    size_t *left = (size_t *)user;
    (void)bytes;
    if (*left == 0) return 0;
    *left -= 1;
    return size > 0;
}

static size_t list_tensors(msae_tensor *tensors, const void *data) {
    static const msae_dtype dtypes[] = {MSAE_F32, MSAE_I32, MSAE_F64, MSAE_BOOL};
    static const char *const names[] = {"weight", "k", "b.c", "flags"};
    memset(tensors, 0, 4 * sizeof *tensors);
    for (size_t i = 0; i < 4; i++) {
        tensors[i].name = names[i];
        tensors[i].dtype = dtypes[i];
        tensors[i].data = data;
    }
    tensors[0].rank = 2;
    tensors[0].shape[0] = 3;
    tensors[0].shape[1] = 300;
    tensors[0].bytes = 3600;
    tensors[1].bytes = 4;
    tensors[2].rank = 1;
    tensors[2].shape[0] = 5;
    tensors[2].bytes = 40;
    tensors[3].rank = 3;
    tensors[3].shape[0] = tensors[3].shape[1] = 2;
    tensors[3].shape[2] = 0;
    return 4;
}

static void written_and_read(void) {
    unsigned char *data = (unsigned char *)test_alloc(3600);
    float *values = test_random_floats(3, 900, 2), *out = test_floats(900);
    msae_tensor tensors[4];
    const torch_content content = {tensors, 4, NULL, 0, NULL, 0};
    buffer b = {NULL, NULL, 0, 0, 0};
    const msae_writer writer = {write_buffer, &b, NULL, NULL, 0, 0};
    torch_file file;
    msae_reader reader;
    msae_error error;
    test_copy_le(data, values, 900);
    CHECK(list_tensors(tensors, data) == content.n_tensors);
    CHECK_STATUS(MSAE_OK, torch_write(&writer, "ae", &content, NULL, &error));
    if (CHECK_STATUS(MSAE_OK, open_bytes(&file, &reader, b.bytes, b.size, &error))) {
        const torch_value *w = torch_find(file.root, "weight"), *k = torch_find(file.root, "k");
        CHECK(file.root->count == 4 && file.zip.n_members == 7);
        for (size_t i = 0; i < file.zip.n_members; i++) CHECK(file.zip.members[i].at % 64 == 0);
        CHECK(w->as.tensor->rank == 2 && w->as.tensor->shape[1] == 300);
        CHECK_STATUS(MSAE_OK, torch_read(&reader, w->as.tensor, MSAE_F32, out, NULL, &error));
        CHECK(test_same(out, values, 900));
        const torch_tensor turned = torch_transposed(w->as.tensor);
        CHECK_STATUS(MSAE_OK, torch_read(&reader, &turned, MSAE_F32, out, NULL, &error));
        CHECK(out[1] == values[300] && out[3] == values[1] && out[899] == values[899]);
        CHECK(k->as.tensor->rank == 0 && k->as.tensor->dtype == MSAE_I32);
        CHECK(torch_find(file.root, "flags")->as.tensor->elements == 0);
        /* a storage whose bytes have changed since */
        b.bytes[w->as.tensor->at + 17] ^= 4;
        CHECK_STATUS(MSAE_ERROR_FORMAT,
                     torch_read(&reader, w->as.tensor, MSAE_F32, out, NULL, &error));
        CHECK(strstr(error.message, "does not match its checksum") != NULL);
        torch_close(&file);
    }
    for (size_t left = 0; left < 20; left++) { /* 7 records of two pieces, less two without bytes */
        size_t some = left;
        const msae_writer short_one = {write_some, &some, NULL, NULL, 0, 0};
        const msae_status status = torch_write(&short_one, "ae", &content, NULL, &error);
        CHECK(status == (left < 14 ? MSAE_ERROR_IO : MSAE_OK));
    }
    free(b.bytes);
    free(values);
    free(out);
    free(data);
}

/* Each allocation fails once: a status, and nothing stays. */
static void memory_that_fails(void) {
    unsigned char data[3600] = {0};
    msae_tensor tensors[4];
    const torch_content content = {tensors, 4, NULL, 0, NULL, 0};
    buffer b = {NULL, NULL, 0, 0, 0};
    const msae_writer writer = {write_buffer, &b, NULL, NULL, 0, 0};
    test_heap heap;
    const msae_allocator allocator = test_heap_allocator(&heap);
    msae_status status = MSAE_ERROR_MEMORY;
    msae_error error;
    list_tensors(tensors, data);
    for (size_t fail_at = 1; status != MSAE_OK && CHECK(fail_at < 200); fail_at++) {
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        b.size = 0;
        status = torch_write(&writer, "ae", &content, &allocator, &error);
        CHECK(status == MSAE_OK || status == MSAE_ERROR_MEMORY);
        CHECK(heap.bytes == 0);
    }
    status = MSAE_ERROR_MEMORY;
    for (size_t fail_at = 1; status != MSAE_OK && CHECK(fail_at < 200); fail_at++) {
        const msae_reader reader = msae_from_memory(b.bytes, b.size);
        torch_file file;
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        status = torch_open(&file, &reader, 0, &allocator, &error);
        if (status == MSAE_OK) {
            float out[900];
            const torch_tensor *tensor = torch_find(file.root, "weight")->as.tensor;
            heap.fail_at = heap.allocations + 1;
            CHECK_STATUS(MSAE_ERROR_MEMORY,
                         torch_read(&reader, tensor, MSAE_F32, out, &allocator, &error));
        }
        torch_close(&file);
        CHECK(status == MSAE_OK || status == MSAE_ERROR_MEMORY);
        CHECK(heap.bytes == 0);
    }
    free(b.bytes);
}

int main(void) {
    RUN(values_of_every_kind);
    RUN(tensors_of_every_kind);
    RUN(hostile_pickles);
    RUN(hostile_zips);
    RUN(other_records);
    RUN(hostile_zip64);
    RUN(cut_and_changed);
    RUN(written_and_read);
    RUN(memory_that_fails);
    return test_finish();
}
