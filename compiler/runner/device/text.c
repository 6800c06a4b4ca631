/* Text: numbers in and out, JSON strings, messages. */
#include <stdarg.h>

#include "runner.h"

/* Apart from its buffer, which would otherwise be in the image. */
static int32_t output_file = 1;
static struct {
    size_t used;
    char bytes[1 << 14];
} output;

size_t length(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

bool equal(const char *a, const char *b)
{
    size_t n = length(a);
    return n == length(b) && !memcmp(a, b, n);
}

const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return NULL;
    return text;
}

const char *parse_integer(const char *text, int64_t *value)
{
    int64_t n = 0;
    const char *start = text;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *text - '0', &n))
            return NULL;
    *value = n;
    return text > start ? text : NULL;
}

static double power_of_ten(int64_t exponent)
{
    double power = 1;
    for (int64_t i = 0; i < (exponent < 0 ? -exponent : exponent) && i < 400; i++)
        power *= 10;
    return exponent < 0 ? 1 / power : power;
}

const char *parse_real(const char *text, double *value)
{
    double n = 0;
    int64_t digits = 0, exponent = 0, shift = 0;
    for (; *text >= '0' && *text <= '9'; text++, digits++)
        n = n * 10 + (*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, digits++, shift++)
            n = n * 10 + (*text - '0');
    if (!digits)
        return NULL;
    if (*text == 'e' || *text == 'E') {
        bool negative = text[1] == '-';
        text = parse_integer(text + (text[1] == '-' || text[1] == '+' ? 2 : 1), &exponent);
        if (!text)
            return NULL;
        exponent = negative ? -exponent : exponent;
    }
    exponent -= shift;
    *value = exponent < 0 ? n / power_of_ten(-exponent) : n * power_of_ten(exponent);
    return text;
}

void flush(void)
{
    size_t used = output.used;
    output.used = 0;
    write_all(output_file, output.bytes, used);
}

void set_output(int32_t file)
{
    flush();
    output_file = file;
}

void put_bytes(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (output.used == sizeof output.bytes)
            flush();
        output.bytes[output.used++] = bytes[i];
    }
}

void put(const char *text)
{
    put_bytes(text, length(text));
}

void put_padded(const char *text, int32_t width)
{
    put(text);
    for (int32_t n = (int32_t)length(text); n < width; n++)
        put(" ");
}

/* The digits of a number, the last one before `end`; returns the first. */
static char *digits(uint64_t value, char *end)
{
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

void put_integer(int64_t value)
{
    char text[24], *end = text + sizeof text - 1;
    *end = 0;
    char *start = digits(value < 0 ? -(uint64_t)value : (uint64_t)value, end);
    if (value < 0)
        *--start = '-';
    put(start);
}

void put_decimals(double value, int32_t width, int32_t decimals)
{
    char text[40], *end = text + sizeof text - 1;
    *end = 0;
    double scaled = value * power_of_ten(decimals) + 0.5;
    uint64_t whole = scaled >= 0 && scaled < 9e18 ? (uint64_t)scaled : 0, unit = 1;
    for (int32_t i = 0; i < decimals; i++)
        unit *= 10;
    char *start = end;
    if (decimals) {
        start = digits(whole % unit + unit, end);
        *start = '.';
    }
    start = digits(whole / unit, start);
    for (int32_t n = (int32_t)(end - start); n < width; n++)
        put(" ");
    put(start);
}

void put_real(double value)
{
    if (value != value) {
        put("NaN");
        return;
    }
    if (value < 0) {
        put("-");
        value = -value;
    }
    if (value > 1.7976931348623157e308) {
        put("inf");
        return;
    }
    int64_t exponent = 0;
    if (value > 0) {
        for (; value >= 10; exponent++)
            value /= 10;
        for (; value < 1; exponent--)
            value *= 10;
        if (value + 5e-7 >= 10) {
            value /= 10;
            exponent++;
        }
    }
    put_decimals(value, 0, 6);
    put("e");
    put_integer(exponent);
}

void put_ms(uint64_t nanoseconds)
{
    put_decimals((double)nanoseconds / 1e6, 0, 6);
}

void put_quoted(const char *text)
{
    static const char hex[] = "0123456789abcdef";
    put("\"");
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        if (c == '"' || c == '\\')
            put("\\");
        if (c < 32) {
            char code[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            put_bytes(code, sizeof code);
        } else
            put_bytes(text, 1);
    }
    put("\"");
}

void put_set(const cpu_set *set)
{
    const char *comma = "";
    for (int32_t i = 0; i < MAX_CPUS; i++) {
        int32_t last = i;
        while (last < MAX_CPUS && set->words[last / 64] >> last % 64 & 1)
            last++;
        if (last == i)
            continue;
        put(comma);
        put_integer(i);
        if (last - 1 > i) {
            put("-");
            put_integer(last - 1);
        }
        comma = ",";
        i = last;
    }
}

_Noreturn void fail(int32_t status, const char *text, ...)
{
    flush();
    set_output(2);
    put("mcc runner: ");
    va_list texts;
    va_start(texts, text);
    for (; text; text = va_arg(texts, const char *))
        put(text);
    put("\n");
    flush();
    leave(status);
}
