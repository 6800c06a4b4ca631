/* Elements of every type, and whether two tensors agree. */
#include "runner.h"

typedef struct type {
    int32_t dtype;
    uint8_t bytes;
    /* 'f' float, 'i' signed, 'u' unsigned, 'b' boolean. */
    char kind;
    const char *name;
    /* Of small floats: bits of exponent and mantissa, the exponent's bias, and their special values:
     * 'i' infinities and NaNs as in IEEE 754, 'n' NaN where all bits are set, 'z' NaN in place of -0, '-' none. */
    uint8_t exponent, mantissa, bias;
    char special;
} type;

static const type TYPES[] = {
    {MCC_F32, 4, 'f', "f32", 0, 0, 0, 0},       {MCC_F64, 8, 'f', "f64", 0, 0, 0, 0},
    {MCC_U8, 1, 'u', "u8", 0, 0, 0, 0},         {MCC_I8, 1, 'i', "i8", 0, 0, 0, 0},
    {MCC_U16, 2, 'u', "u16", 0, 0, 0, 0},       {MCC_I16, 2, 'i', "i16", 0, 0, 0, 0},
    {MCC_U32, 4, 'u', "u32", 0, 0, 0, 0},       {MCC_I32, 4, 'i', "i32", 0, 0, 0, 0},
    {MCC_U64, 8, 'u', "u64", 0, 0, 0, 0},       {MCC_I64, 8, 'i', "i64", 0, 0, 0, 0},
    {MCC_BOOL, 1, 'b', "bool", 0, 0, 0, 0},     {MCC_U4, 1, 'u', "u4", 0, 0, 0, 0},
    {MCC_I4, 1, 'i', "i4", 0, 0, 0, 0},         {MCC_U2, 1, 'u', "u2", 0, 0, 0, 0},
    {MCC_I2, 1, 'i', "i2", 0, 0, 0, 0},         {MCC_F16, 2, 'f', "f16", 5, 10, 15, 'i'},
    {MCC_BF16, 2, 'f', "bf16", 8, 7, 127, 'i'}, {MCC_F8E4M3FN, 1, 'f', "f8e4m3fn", 4, 3, 7, 'n'},
    {MCC_F8E4M3FNUZ, 1, 'f', "f8e4m3fnuz", 4, 3, 8, 'z'},
    {MCC_F8E5M2, 1, 'f', "f8e5m2", 5, 2, 15, 'i'},
    {MCC_F8E5M2FNUZ, 1, 'f', "f8e5m2fnuz", 5, 2, 16, 'z'},
    {MCC_F4E2M1, 1, 'f', "f4e2m1", 2, 1, 1, '-'},
    {MCC_F8E8M0, 1, 'f', "f8e8m0", 8, 0, 127, 'n'},
};

static const type *row(int32_t dtype)
{
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (TYPES[i].dtype == dtype)
            return &TYPES[i];
    fail(FAULT, "elements of a type that the runner does not know", NULL);
}

int32_t element_bytes(int32_t dtype)
{
    return row(dtype)->bytes;
}

bool is_float(int32_t dtype)
{
    return row(dtype)->kind == 'f';
}

const char *type_name(int32_t dtype)
{
    return row(dtype)->name;
}

static uint64_t bits_of(const tensor *t, uint64_t i)
{
    uint64_t bits = 0;
    int32_t bytes = element_bytes(t->dtype);
    memcpy(&bits, t->data + i * (uint64_t)bytes, (size_t)bytes);
    return bits;
}

static double power_of_two(int32_t exponent)
{
    double power = 1;
    for (; exponent > 0; exponent--)
        power *= 2;
    for (; exponent < 0; exponent++)
        power /= 2;
    return power;
}

static double small_float(const type *t, uint64_t bits)
{
    uint64_t all = ((uint64_t)1 << (t->exponent + t->mantissa)) - 1, magnitude = bits & all;
    uint64_t top = ((uint64_t)1 << t->exponent) - 1, exponent = magnitude >> t->mantissa;
    uint64_t fraction = magnitude & (((uint64_t)1 << t->mantissa) - 1);
    /* The type that is only an exponent has no sign. */
    bool negative = t->mantissa && bits > all;
    if ((t->special == 'n' && magnitude == all) || (t->special == 'z' && negative && !magnitude)
        || (t->special == 'i' && exponent == top && fraction))
        return __builtin_nan("");
    double value;
    if (t->special == 'i' && exponent == top)
        value = __builtin_inf();
    else if (!exponent && t->mantissa)
        value = (double)fraction * power_of_two(1 - t->bias - t->mantissa);
    else
        value = (double)(fraction + ((uint64_t)1 << t->mantissa)) * power_of_two((int32_t)exponent - t->bias - t->mantissa);
    return negative ? -value : value;
}

double element(const tensor *t, uint64_t i)
{
    const type *of = row(t->dtype);
    uint64_t bits = bits_of(t, i);
    if (t->dtype == MCC_F32) {
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
    if (t->dtype == MCC_F64) {
        double value;
        memcpy(&value, &bits, 8);
        return value;
    }
    return of->kind == 'f' ? small_float(of, bits) : (double)integer_element(t, i);
}

int64_t integer_element(const tensor *t, uint64_t i)
{
    const type *of = row(t->dtype);
    int32_t unused = 64 - 8 * of->bytes;
    uint64_t bits = bits_of(t, i);
    return of->kind == 'i' ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
}

uint64_t element_count(const int64_t *dims, int32_t rank)
{
    int64_t count = 1;
    bool empty = false;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            fail(FAULT, "a negative dimension", NULL);
        empty |= !dims[i];
        if (dims[i] && __builtin_mul_overflow(count, dims[i], &count))
            fail(FAULT, "a tensor is larger than the address space", NULL);
    }
    /* With eight bytes per element it must still be addressable. */
    if (count > INT64_MAX / 8)
        fail(FAULT, "a tensor is larger than the address space", NULL);
    return empty ? 0 : (uint64_t)count;
}

/* Roughly normal: the sum of twelve uniform numbers, as `mcc bench` makes them. */
static double next_normal(uint64_t *state)
{
    double sum = -6;
    for (int32_t i = 0; i < 12; i++) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        sum += (double)(*state >> 11) / 9007199254740992.0;
    }
    return sum;
}

/* The bits of a value in a type of floats, rounded towards zero; magnitudes are moderate. */
static uint64_t to_bits(const type *t, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    if (t->dtype == MCC_F64)
        return bits;
    if (t->dtype == MCC_F32) {
        float rounded = (float)value;
        bits = 0;
        memcpy(&bits, &rounded, 4);
        return bits;
    }
    int32_t exponents = t->exponent, mantissa = t->mantissa, bias = t->bias, top = (1 << exponents) - 2;
    int32_t exponent = (int32_t)(bits >> 52 & 2047) - 1023 + bias;
    uint64_t fraction = mantissa ? (bits & (((uint64_t)1 << 52) - 1)) >> (52 - mantissa) : 0;
    if (exponent < 1)
        exponent = 0, fraction = 0;
    if (exponent > top)
        exponent = top, fraction = 0;
    uint64_t sign = mantissa && exponent ? bits >> 63 << (exponents + mantissa) : 0;
    return sign | (uint64_t)exponent << mantissa | fraction;
}

void fill_stand_in(tensor *t)
{
    const type *of = row(t->dtype);
    uint64_t count = element_count(t->dims, t->rank), state = 0x9e3779b97f4a7c15u;
    uint8_t *data = allocate(count * of->bytes);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bits = of->kind == 'f' ? to_bits(of, next_normal(&state)) : 1;
        memcpy(data + i * of->bytes, &bits, of->bytes);
    }
    t->data = data;
}

void put_dims(const int64_t *dims, int32_t rank)
{
    put("[");
    for (int32_t i = 0; i < rank; i++) {
        put(i ? ", " : "");
        put_integer(dims[i]);
    }
    put("]");
}

static void put_place(const tensor *t, uint64_t i)
{
    int64_t index[MAX_RANK];
    for (int32_t axis = t->rank; axis--;) {
        uint64_t extent = t->dims[axis] ? (uint64_t)t->dims[axis] : 1;
        index[axis] = (int64_t)(i % extent);
        i /= extent;
    }
    put_dims(index, t->rank);
}

static void put_pair(const tensor *got, const tensor *want, uint64_t i)
{
    put("element ");
    put_place(want, i);
    put(" is ");
    is_float(want->dtype) ? put_real(element(got, i)) : put_integer(integer_element(got, i));
    put(", expected ");
    is_float(want->dtype) ? put_real(element(want, i)) : put_integer(integer_element(want, i));
}

/* How far two elements are apart if they differ by more than is allowed, else -1. */
static double distance(const tensor *got, const tensor *want, uint64_t i, double rtol, double atol)
{
    if (!is_float(want->dtype)) {
        double by = element(got, i) - element(want, i);
        return integer_element(got, i) == integer_element(want, i) ? -1 : by < 0 ? -by : by;
    }
    double g = element(got, i), w = element(want, i), by = g < w ? w - g : g - w, size = w < 0 ? -w : w;
    if (g == w || (g != g && w != w))
        return -1;
    if (by != by || size > 1.7976931348623157e308)
        return __builtin_inf();
    return by > atol + rtol * size ? by : -1;
}

bool agree(const char *place, const char *name, const tensor *got, const tensor *want, double rtol, double atol)
{
    bool same = got->rank == want->rank && got->dtype == want->dtype;
    for (int32_t i = 0; same && i < want->rank; i++)
        same = got->dims[i] == want->dims[i];
    if (!same) {
        put("FAIL ");
        put(place);
        put(": output ");
        put_quoted(name);
        put(" is ");
        put(type_name(got->dtype));
        put_dims(got->dims, got->rank);
        put(", expected ");
        put(type_name(want->dtype));
        put_dims(want->dims, want->rank);
        return false;
    }
    uint64_t count = element_count(want->dims, want->rank), wrong = 0, first = 0, worst = 0;
    double worst_by = -1;
    for (uint64_t i = 0; i < count; i++) {
        double by = distance(got, want, i, rtol, atol);
        if (by < 0)
            continue;
        first = wrong ? first : i;
        wrong++;
        if (by > worst_by) {
            worst = i;
            worst_by = by;
        }
    }
    if (!wrong)
        return true;
    put("FAIL ");
    put(place);
    put(": output ");
    put_quoted(name);
    put(": ");
    put_integer((int64_t)wrong);
    put(" of ");
    put_integer((int64_t)count);
    put(" elements differ; ");
    put_pair(got, want, first);
    if (worst != first) {
        put("; worst: ");
        put_pair(got, want, worst);
    }
    return false;
}
