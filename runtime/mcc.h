/* The interface of models compiled by mcc. C11 and C++17. Generated from runtime/src/abi.rs. */
#ifndef MCC_H
#define MCC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface: mcc_model.abi_version. */
#define MCC_ABI_VERSION 3

/* Alignment in bytes of every arena. */
#define MCC_ARENA_ALIGN 64

/* Codes that a model's functions return: MCC_OK, or the kind of refusal in the lower 8 bits (code & MCC_KIND) and the number of
   the violated requirement in the upper bits (mcc_explain). */
enum {
    MCC_OK = 0,
    MCC_NULL_POINTER = 1,
    MCC_WRONG_RANK = 2,
    MCC_WRONG_DTYPE = 3,
    MCC_WRONG_DIMENSION = 4,
    MCC_ARENA_TOO_SMALL = 5,
    MCC_MISALIGNED_ARENA = 6,
    MCC_BAD_VALUE = 7,
    MCC_CPU_LACKS_FEATURE = 8,
    MCC_TOO_LARGE = 9,
    MCC_WRONG_WEIGHTS = 10,
    MCC_KIND = 255
};

/* Element types, numbered as in ONNX. Types of less than a byte take a byte per element; so do booleans, 0 or 1. */
enum {
    MCC_F32 = 1,
    MCC_U8 = 2,
    MCC_I8 = 3,
    MCC_U16 = 4,
    MCC_I16 = 5,
    MCC_I32 = 6,
    MCC_I64 = 7,
    MCC_BOOL = 9,
    MCC_F16 = 10,
    MCC_F64 = 11,
    MCC_U32 = 12,
    MCC_U64 = 13,
    MCC_BF16 = 16,
    MCC_F8E4M3FN = 17,
    MCC_F8E4M3FNUZ = 18,
    MCC_F8E5M2 = 19,
    MCC_F8E5M2FNUZ = 20,
    MCC_U4 = 21,
    MCC_I4 = 22,
    MCC_F4E2M1 = 23,
    MCC_F8E8M0 = 24,
    MCC_U2 = 25,
    MCC_I2 = 26
};

/* A tensor of the caller: row-major and contiguous. `dims` has `rank` entries. */
typedef struct mcc_tensor {
    void *data;
    int64_t *dims;
    int32_t rank;
    int32_t dtype;
} mcc_tensor;

/* An input or output of a model. */
typedef struct mcc_port {
    const char *name;
    /* -1 for dimensions that are not constant; dim_names has their expressions. */
    const int64_t *dims;
    const char *const *dim_names;
    int32_t rank;
    int32_t dtype;
} mcc_port;

/* Threads that a run may use: the application's own, or those of mcc_pool_new. Several runs may use one pool at the same time. */
typedef struct mcc_pool {
    void *context;
    /* Calls task(argument, index) for every index from 0 to count - 1, once each, on any threads and in any order, and returns
       when all calls have returned. `count` is at most `threads`. The calls may run one after another: results are
       bit-identical. */
    void (*parallel_for)(void *context, void (*task)(void *argument, int64_t index), void *argument, int64_t count);
    int32_t threads;
} mcc_pool;

/* The pool of libmcc_runtime.a, for programs without their own; the caller's thread is one of its threads. Returns null when
   there is no memory. A pool must not be used after it is freed. */
const mcc_pool *mcc_pool_new(int32_t threads);
void mcc_pool_free(const mcc_pool *pool);

/* The descriptor of a model, through which it can be run without its header. */
typedef struct mcc_model {
    int32_t abi_version;
    int32_t input_count;
    int32_t output_count;
    /* The largest number of threads that a run uses. */
    int32_t threads;
    const char *name;
    const mcc_port *inputs;
    const mcc_port *outputs;
    /* -1 if it depends on dimensions; `shapes` returns it then. */
    int64_t arena_size;
    /* Checks the inputs' dims and types, and the data of inputs that decide dimensions. Fills in the outputs' rank, dtype and,
       unless `dims` is null, dims, and the arena's size. `outputs` and `arena_size` may be null. Dimensions that depend on
       computed data are filled in as upper bounds. */
    int32_t (*shapes)(const mcc_tensor *inputs, mcc_tensor *outputs, int64_t *arena_size);
    /* Checks all arguments, then runs the model. The outputs' dims must be those that `shapes` filled in; dimensions that depend
       on computed data are overwritten with the true ones. Requirements on these are checked during the run: after such a
       refusal (MCC_BAD_VALUE) the outputs' data are undefined. Out-of-range indices in data (of Gather, Scatter and the like, and
       lengths of sequences) are clamped to the nearest valid one; nothing outside of a tensor is ever read or written. The arena
       must be aligned to MCC_ARENA_ALIGN; it holds nothing between calls.
       If the model's weights are in a separate file, the last input is that file's bytes, at any address (a multiple of 64, such
       as that of a mapped file, is fastest); if its first eight bytes do not identify the model's weights, the call returns
       MCC_WRONG_WEIGHTS.
       `pool` may be null: then everything runs on the caller's thread, as in models compiled without --threads. */
    int32_t (*invoke)(const mcc_tensor *inputs, mcc_tensor *outputs, void *arena, size_t arena_size, const mcc_pool *pool);
    /* CPU extensions that the code needs, separated by spaces. Every function of the model first checks that the processor has
       them, and returns MCC_CPU_LACKS_FEATURE if one is missing. */
    const char *cpu_features;
    /* The model's requirements, in terms of its inputs and nodes; mcc_explain returns one of them. */
    const char *const *requirements;
    int32_t requirement_count;
} mcc_model;

/* The layout that the C compiler must agree with. */
#ifdef __cplusplus
#define MCC_ASSERT_LAYOUT(what) static_assert(what, "mcc.h: " #what)
#else
#define MCC_ASSERT_LAYOUT(what) _Static_assert(what, "mcc.h: " #what)
#endif
MCC_ASSERT_LAYOUT(sizeof(mcc_tensor) == 24);
MCC_ASSERT_LAYOUT(offsetof(mcc_tensor, data) == 0);
MCC_ASSERT_LAYOUT(offsetof(mcc_tensor, dims) == 8);
MCC_ASSERT_LAYOUT(offsetof(mcc_tensor, rank) == 16);
MCC_ASSERT_LAYOUT(offsetof(mcc_tensor, dtype) == 20);
MCC_ASSERT_LAYOUT(sizeof(mcc_port) == 32);
MCC_ASSERT_LAYOUT(offsetof(mcc_port, name) == 0);
MCC_ASSERT_LAYOUT(offsetof(mcc_port, dims) == 8);
MCC_ASSERT_LAYOUT(offsetof(mcc_port, dim_names) == 16);
MCC_ASSERT_LAYOUT(offsetof(mcc_port, rank) == 24);
MCC_ASSERT_LAYOUT(offsetof(mcc_port, dtype) == 28);
MCC_ASSERT_LAYOUT(sizeof(mcc_pool) == 24);
MCC_ASSERT_LAYOUT(offsetof(mcc_pool, context) == 0);
MCC_ASSERT_LAYOUT(offsetof(mcc_pool, parallel_for) == 8);
MCC_ASSERT_LAYOUT(offsetof(mcc_pool, threads) == 16);
MCC_ASSERT_LAYOUT(sizeof(mcc_model) == 88);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, abi_version) == 0);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, input_count) == 4);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, output_count) == 8);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, threads) == 12);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, name) == 16);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, inputs) == 24);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, outputs) == 32);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, arena_size) == 40);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, shapes) == 48);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, invoke) == 56);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, cpu_features) == 64);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, requirements) == 72);
MCC_ASSERT_LAYOUT(offsetof(mcc_model, requirement_count) == 80);

/* The message of a code's kind. */
static inline const char *mcc_message(int32_t code)
{
    switch (code & MCC_KIND) {
    case MCC_OK: return "ok";
    case MCC_NULL_POINTER: return "a pointer is null";
    case MCC_WRONG_RANK: return "a tensor has the wrong number of dimensions";
    case MCC_WRONG_DTYPE: return "a tensor has the wrong element type";
    case MCC_WRONG_DIMENSION: return "a tensor has a wrong dimension, or two that must be equal are not";
    case MCC_ARENA_TOO_SMALL: return "the arena is too small";
    case MCC_MISALIGNED_ARENA: return "the arena is not aligned to 64 bytes";
    case MCC_BAD_VALUE: return "the inputs' values are not what the model requires";
    case MCC_CPU_LACKS_FEATURE: return "the processor lacks an extension that the model was compiled for";
    case MCC_TOO_LARGE: return "the dimensions make a tensor larger than can be addressed";
    case MCC_WRONG_WEIGHTS: return "the weights are not those that were written with the model";
    default: return "unknown code";
    }
}

/* The message of a model's code: the violated requirement, such as
   `dimension 2 (height) of input "x" must be at least 7, for node "conv1": ...`. */
static inline const char *mcc_explain(const mcc_model *model, int32_t code)
{
    int32_t number = code >> 8;
    return number > 0 && number <= model->requirement_count ? model->requirements[number - 1] : mcc_message(code);
}

#ifdef __cplusplus
}
#endif

#endif /* MCC_H */
