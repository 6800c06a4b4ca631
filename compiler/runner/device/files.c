/* Tensors from files: NumPy's .npy, and ONNX's TensorProto (.pb). What mcc itself reads (../../data/src/npy.rs,
 * ../../onnx/src/tensor.rs) is read here too, except arrays in other byte or axis orders. */
#include "runner.h"

bool ends_with(const char *text, const char *end)
{
    size_t n = length(text), m = length(end);
    return n >= m && equal(text + n - m, end);
}

/* A part of a file. */
typedef struct bytes {
    const uint8_t *at, *end;
} bytes;

static _Noreturn void broken(const char *path, const char *what)
{
    fail(FAULT, path, ": ", what, NULL);
}

/* ---- .npy ---- */

/* NumPy's names of a type without the byte order, up to two. */
static const struct {
    int32_t dtype;
    const char *names[2];
} NUMPY[] = {
    {MCC_F32, {"f4", NULL}},        {MCC_F64, {"f8", NULL}},        {MCC_F16, {"f2", NULL}},
    {MCC_U8, {"u1", NULL}},         {MCC_I8, {"i1", NULL}},         {MCC_U16, {"u2", NULL}},
    {MCC_I16, {"i2", NULL}},        {MCC_U32, {"u4", NULL}},        {MCC_I32, {"i4", NULL}},
    {MCC_U64, {"u8", NULL}},        {MCC_I64, {"i8", NULL}},        {MCC_BOOL, {"b1", NULL}},
    {MCC_U4, {"u1", NULL}},         {MCC_I4, {"i1", NULL}},         {MCC_U2, {"u1", NULL}},
    {MCC_I2, {"i1", NULL}},         {MCC_BF16, {"V2", "u2"}},       {MCC_F8E4M3FN, {"V1", "u1"}},
    {MCC_F8E4M3FNUZ, {"V1", "u1"}}, {MCC_F8E5M2, {"V1", "u1"}},     {MCC_F8E5M2FNUZ, {"V1", "u1"}},
    {MCC_F4E2M1, {"V1", "u1"}},     {MCC_F8E8M0, {"V1", "u1"}},
};

/* Where a word of the header ends. */
static const char *find(bytes header, const char *word)
{
    size_t n = length(word);
    for (const uint8_t *p = header.at; p + n <= header.end; p++)
        if (!memcmp(p, word, n))
            return (const char *)p + n;
    return NULL;
}

static bool holds(const char *element, int32_t dtype)
{
    for (size_t i = 0; i < sizeof NUMPY / sizeof *NUMPY; i++)
        for (int32_t n = 0; n < 2 && NUMPY[i].dtype == dtype; n++)
            if (NUMPY[i].names[n] && equal(NUMPY[i].names[n], element))
                return true;
    return false;
}

static const char *numpy_name(int32_t dtype)
{
    for (size_t i = 0; i < sizeof NUMPY / sizeof *NUMPY; i++)
        if (NUMPY[i].dtype == dtype)
            return NUMPY[i].names[0];
    return "";
}

static tensor read_npy(const char *path, bytes file, int32_t dtype)
{
    tensor t = {.dtype = dtype};
    uint64_t size = (uint64_t)(file.end - file.at), start = 10;
    if (size < 12 || memcmp(file.at, "\x93NUMPY", 6))
        broken(path, "not an array of NumPy");
    uint64_t text = file.at[8] | (uint64_t)file.at[9] << 8;
    if (file.at[6] >= 2) {
        text |= (uint64_t)file.at[10] << 16 | (uint64_t)file.at[11] << 24;
        start = 12;
    }
    if (text > size - start)
        broken(path, "its header is cut off");
    /* It ends with a line feed, at which every search and number stops. */
    bytes header = {file.at + start, file.at + start + text};
    const char *descr = find(header, "'descr': '"), *order = find(header, "'fortran_order': ");
    const char *shape = find(header, "'shape': ("), *end = (const char *)header.end;
    if (!descr || !order || !shape || end - descr < 4 || end[-1] != '\n')
        broken(path, "its header is not that of plain numbers");
    char found[5] = {descr[0], descr[1], descr[2], descr[3] == '\'' ? 0 : descr[3], 0};
    if (*descr == '>' || !holds(found + 1, dtype))
        fail(FAULT, path, ": elements are ", found, ", the model takes ", type_name(dtype), "; in NumPy: a.astype('<",
             numpy_name(dtype), "')", NULL);
    while (*shape != ')') {
        if (t.rank == MAX_RANK || !(shape = parse_integer(shape, &t.dims[t.rank++])))
            broken(path, "its shape cannot be read");
        while (*shape == ',' || *shape == ' ')
            shape++;
    }
    if (*order == 'T' && t.rank > 1)
        broken(path, "the array is in column-major order; write numpy.ascontiguousarray of it");
    t.data = header.end;
    uint64_t want = element_count(t.dims, t.rank) * (uint64_t)element_bytes(dtype);
    if (want != size - start - text)
        broken(path, "it has more or fewer elements than its shape says");
    return t;
}

/* ---- .pb ---- */

static uint64_t varint(bytes *b, const char *path)
{
    uint64_t value = 0;
    for (int32_t shift = 0; shift < 64; shift += 7) {
        if (b->at == b->end)
            broken(path, "not a serialized tensor: it is cut off");
        uint8_t byte = *b->at++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    broken(path, "not a serialized tensor: a number is too long");
}

/* The next `count` bytes. */
static bytes take(bytes *b, uint64_t count, const char *path)
{
    if (count > (uint64_t)(b->end - b->at))
        broken(path, "not a serialized tensor: it is cut off");
    bytes part = {b->at, b->at + count};
    b->at += count;
    return part;
}

/* Fields of TensorProto that hold elements; how their numbers are encoded. */
enum { DIMS = 1, DATA_TYPE = 2, FLOATS = 4, INTS = 5, LONGS = 7, NAME = 8, RAW = 9, DOUBLES = 10, ULONGS = 11, WHERE = 14 };
enum { VARINT = 0, EIGHT_BYTES = 1, LENGTH = 2, FOUR_BYTES = 5 };

/* The field that holds elements of a type when they are not raw bytes. */
static uint32_t field_of(int32_t dtype)
{
    switch (dtype) {
    case MCC_F32: return FLOATS;
    case MCC_F64: return DOUBLES;
    case MCC_I64: return LONGS;
    case MCC_U32: case MCC_U64: return ULONGS;
    default: return INTS;
    }
}

/* Bits of an element in files. */
static int32_t file_bits(int32_t dtype)
{
    switch (dtype) {
    case MCC_U2: case MCC_I2: return 2;
    case MCC_U4: case MCC_I4: case MCC_F4E2M1: return 4;
    default: return 8 * element_bytes(dtype);
    }
}

/* One byte per element of those that are packed from the low bits up. */
static void unpack(tensor *t, const uint8_t *packed, uint64_t count)
{
    int32_t bits = file_bits(t->dtype), unused = 8 - bits;
    bool is_signed = t->dtype == MCC_I2 || t->dtype == MCC_I4;
    uint8_t *data = allocate(count);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t high = (uint8_t)(packed[i * (uint64_t)bits / 8] >> (i * (uint64_t)bits % 8) << unused);
        data[i] = is_signed ? (uint8_t)((int8_t)high >> unused) : (uint8_t)(high >> unused);
    }
    t->data = data;
}

/* A small integer must be one of its type. */
static bool is_of(int32_t dtype, int64_t v)
{
    switch (dtype) {
    case MCC_U8: return v >= 0 && v <= 255;
    case MCC_I8: return v >= -128 && v <= 127;
    case MCC_U16: return v >= 0 && v <= 65535;
    case MCC_I16: return v >= -32768 && v <= 32767;
    default: return file_bits(dtype) >= 8 || (v >= -128 && v <= 255);
    }
}

/* Appends the numbers of one occurrence of a field of elements. */
static void append(const char *path, int32_t dtype, uint32_t wire, bytes *b, bytes *to, uint64_t size)
{
    bytes part = *b;
    if (wire == LENGTH)
        part = take(b, varint(b, path), path);
    do {
        if (part.at == part.end)
            break;
        uint64_t value;
        uint32_t field = field_of(dtype);
        if (field == FLOATS || field == DOUBLES) {
            value = 0;
            bytes number = take(&part, field == FLOATS ? 4 : 8, path);
            memcpy(&value, number.at, field == FLOATS ? 4 : 8);
        } else
            value = varint(&part, path);
        if (field == INTS && !is_of(dtype, (int64_t)value))
            broken(path, "a number in int32_data is not of the tensor's type");
        if ((uint64_t)(to->end - to->at) < size)
            broken(path, "it has more elements than its shape says");
        memcpy((uint8_t *)(uintptr_t)to->at, &value, size);
        to->at += size;
    } while (wire == LENGTH);
    if (wire != LENGTH)
        b->at = part.at;
}

typedef struct proto {
    bytes raw;
    bool has_raw;
} proto;

/* Reads everything but elements that are not raw. */
static tensor read_head(const char *path, bytes b, proto *p)
{
    tensor t = {0};
    while (b.at < b.end) {
        uint64_t key = varint(&b, path);
        uint32_t field = (uint32_t)(key >> 3), wire = key & 7;
        if (wire == LENGTH) {
            bytes part = take(&b, varint(&b, path), path);
            if (field == NAME) {
                t.name = (const char *)part.at;
                t.name_length = (size_t)(part.end - part.at);
            } else if (field == RAW) {
                p->raw = part;
                p->has_raw = part.at < part.end;
            }
            while (field == DIMS && part.at < part.end) {
                if (t.rank == MAX_RANK)
                    broken(path, "it has too many dimensions");
                t.dims[t.rank++] = (int64_t)varint(&part, path);
            }
        } else if (wire == VARINT) {
            uint64_t value = varint(&b, path);
            if (field == DIMS && t.rank == MAX_RANK)
                broken(path, "it has too many dimensions");
            if (field == DIMS)
                t.dims[t.rank++] = (int64_t)value;
            if (field == DATA_TYPE)
                t.dtype = (int32_t)value;
            if (field == WHERE && value)
                broken(path, "its elements are in another file");
        } else if (wire == EIGHT_BYTES || wire == FOUR_BYTES)
            take(&b, wire == EIGHT_BYTES ? 8 : 4, path);
        else
            broken(path, "not a serialized tensor");
    }
    return t;
}

static tensor read_pb(const char *path, bytes file)
{
    proto p = {{0}, false};
    tensor t = read_head(path, file, &p);
    uint64_t count = element_count(t.dims, t.rank), bits = (uint64_t)file_bits(t.dtype);
    uint64_t stored = bits < 8 ? (count * bits + 7) / 8 : count * (bits / 8);
    if (p.has_raw) {
        if ((uint64_t)(p.raw.end - p.raw.at) != stored)
            broken(path, "it has more or fewer elements than its shape says");
        t.data = p.raw.at;
    } else {
        uint8_t *data = allocate(stored);
        uint64_t size = bits < 8 ? 1 : bits / 8;
        bytes to = {data, data + stored}, b = file;
        while (b.at < b.end) {
            uint64_t key = varint(&b, path);
            uint32_t field = (uint32_t)(key >> 3), wire = key & 7;
            if (field == field_of(t.dtype))
                append(path, t.dtype, wire, &b, &to, size);
            else if (wire == LENGTH)
                take(&b, varint(&b, path), path);
            else if (wire == VARINT)
                varint(&b, path);
            else
                take(&b, wire == EIGHT_BYTES ? 8 : 4, path);
        }
        if (to.at != to.end)
            broken(path, "it has fewer elements than its shape says");
        t.data = data;
    }
    if (bits < 8)
        unpack(&t, t.data, count);
    return t;
}

tensor read_tensor(const char *path, int32_t dtype)
{
    bytes file;
    uint64_t size;
    file.at = map_file(path, &size);
    if (!file.at)
        fail(FAULT, "no file ", path, NULL);
    file.end = file.at + size;
    return ends_with(path, ".pb") ? read_pb(path, file) : read_npy(path, file, dtype);
}
