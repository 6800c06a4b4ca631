/* The runner: a program without a C library that mcc links with a model's object (../src/lib.rs) into one executable.
 * It times the model, profiles it and checks recorded cases on the machine where it runs.
 *
 * Only linux.c talks to the system. Memory is freed by `release` only. Whatever goes wrong ends the program with a
 * message: exit status 1 for the model or its data, 2 for usage. */
#ifndef RUNNER_H
#define RUNNER_H

#include <stdbool.h>

#include "mcc.h"

/* What mcc fills in: `Card` in ../src/lib.rs. */
typedef struct card {
    const mcc_model *model;
    /* A JSON object that describes the model, for `mcc report`. */
    const char *manifest;
    /* The name of each step, counted through the code for all CPU levels. */
    const char *const *steps;
    /* The names of the inputs in the order of the model's file, by which recorded cases number them. */
    const char *const *file_inputs;
    /* The first step of the code for each CPU level, the plainest first. */
    const int64_t *level_starts;
    int32_t step_count;
    int32_t file_input_count;
    int32_t level_count;
    /* Whether the last input is the weights, which have a file of their own. */
    int32_t separate_weights;
} card;
extern volatile card mcc_runner_card;

enum { MAX_RANK = 32, MAX_CPUS = 256, MAX_PORTS = 256, FAULT = 1, USAGE = 2 };

/* ---- linux.c ---- */

typedef struct cpu_set {
    uint64_t words[MAX_CPUS / 64];
} cpu_set;

/* Pages of zeros. */
void *allocate(uint64_t bytes);
/* A file's bytes, or null if it does not exist. */
const uint8_t *map_file(const char *path, uint64_t *bytes);
/* Reads a small file of the system as text; returns its length, or -1. */
int64_t read_text(const char *path, char *text, uint64_t room);
/* The current end of the list of pages, and freeing all from there on. */
int32_t pages(void);
void release(int32_t from);
/* Calls `each` with every name in a folder; returns whether the folder exists. */
bool list_folder(const char *path, void (*each)(void *context, const char *name), void *context);
/* Creates or empties a file. */
int32_t create_file(const char *path);
void write_all(int32_t file, const char *bytes, uint64_t count);
void close_file(int32_t file);
/* Nanoseconds of a clock that never goes back. */
uint64_t now(void);
/* Whether a thread could be started. */
bool start_thread(void (*run)(void *argument), void *argument);
void yield(void);
/* Sleeps while a word has a value; wakes one sleeper. */
void sleep_while(const int32_t *word, int32_t value);
void wake_one(const int32_t *word);
/* The CPUs that this thread, and those that it starts, may use. */
bool set_cpus(const cpu_set *set);
cpu_set get_cpus(void);
/* The system's name, release and machine. */
const char *system_name(void);
_Noreturn void leave(int32_t status);
unsigned long getauxval(unsigned long key);
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

/* ---- text.c ---- */

size_t length(const char *text);
bool equal(const char *a, const char *b);
/* What follows a prefix, or null. */
const char *after(const char *text, const char *prefix);
/* Numbers at the start of a text, and where they end; null if there is none. */
const char *parse_integer(const char *text, int64_t *value);
const char *parse_real(const char *text, double *value);

/* Where text goes: 1 is stdout, 2 stderr. */
void set_output(int32_t file);
void flush(void);
void put(const char *text);
void put_bytes(const char *bytes, size_t count);
void put_integer(int64_t value);
/* A number of `width` characters at least, with a number of decimals. */
void put_decimals(double value, int32_t width, int32_t decimals);
/* With seven significant digits. */
void put_real(double value);
/* A JSON string. */
void put_quoted(const char *text);
/* Pads with blanks. */
void put_padded(const char *text, int32_t width);
/* Nanoseconds as milliseconds. */
void put_ms(uint64_t nanoseconds);
void put_set(const cpu_set *set);
/* Prints "mcc runner: " and the texts up to null to stderr, and leaves. */
_Noreturn void fail(int32_t status, const char *text, ...);

/* ---- tensor.c ---- */

typedef struct tensor {
    const uint8_t *data;
    int64_t dims[MAX_RANK];
    int32_t rank;
    int32_t dtype;
    /* Not terminated; may be empty. */
    const char *name;
    size_t name_length;
} tensor;

/* Bytes of an element; whether it is a float; the type's name. */
int32_t element_bytes(int32_t dtype);
bool is_float(int32_t dtype);
const char *type_name(int32_t dtype);
double element(const tensor *t, uint64_t i);
int64_t integer_element(const tensor *t, uint64_t i);
/* The number of elements; fails on overflow. */
uint64_t element_count(const int64_t *dims, int32_t rank);
/* Noise for floats, ones for other types. */
void fill_stand_in(tensor *t);
/* Whether two tensors agree within tolerances; prints how they differ if not. */
bool agree(const char *place, const char *name, const tensor *got, const tensor *want, double rtol, double atol);
void put_dims(const int64_t *dims, int32_t rank);

/* ---- files.c ---- */

/* Reads a tensor from a .npy or .pb file; an array in NumPy's format is of `dtype`. */
tensor read_tensor(const char *path, int32_t dtype);
bool ends_with(const char *text, const char *end);

/* ---- cpus.c ---- */

typedef struct cpu_group {
    cpu_set cpus;
    /* Relative speed and highest frequency as the system states them; 0 if it does not. */
    int64_t capacity, max_khz;
    /* The identification register of 64-bit Arm, such as 0x410fd034 for a Cortex-A53. */
    char midr[24];
} cpu_group;

/* The groups of equal CPUs, the slowest first. */
int32_t cpu_groups(const cpu_group **groups);
/* The set that a word or a list names. */
cpu_set parse_cpus(const char *text);
/* Runs on a set, which messages call by a name. */
void use_cpus(cpu_set set, const char *name);
/* The present frequency of the first CPU of a set, or 0. */
int64_t current_khz(const cpu_set *set);
/* Billions of operations per second in registers, a multiply-add being two; 0 where there is no such loop. */
double peak_f32(void);
double peak_int8(void);

/* ---- pool.c ---- */

/* A pool of threads, this one included. */
const mcc_pool *make_pool(int32_t threads);

/* ---- session.c ---- */

typedef struct options {
    /* Files and shapes of inputs as given, NAME=...; null-terminated. */
    const char *inputs[MAX_PORTS + 1];
    const char *shapes[MAX_PORTS + 1];
    const char *cases[MAX_PORTS + 1];
    const char *cpus, *json, *weights;
    double seconds, rtol, atol;
    int32_t threads;
    bool profile;
} options;

/* A model with inputs, room for outputs, and an arena. */
typedef struct session {
    const mcc_model *model;
    tensor inputs[MAX_PORTS];
    mcc_tensor in[MAX_PORTS], out[MAX_PORTS];
    int64_t out_dims[MAX_PORTS][MAX_RANK], upper_dims[MAX_PORTS][MAX_RANK];
    void *arena;
    int64_t arena_bytes;
    const mcc_pool *pool;
} session;

/* The number of inputs without the weights. */
int32_t own_inputs(const mcc_model *model);
/* Inputs from files, or stand-ins. */
void read_inputs(session *s, const options *o);
/* Checks the inputs, and allocates outputs and arena. */
void prepare(session *s, const options *o);
/* Runs the model; fails if it refuses. */
void run(session *s);

/* ---- commands ---- */

void time_model(const options *o);
bool verify_cases(const options *o);

#endif
