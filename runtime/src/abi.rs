//! The binary interface of compiled models in one table: versions, codes, element types, layout of structures. The
//! compiler writes descriptors according to it, the test `header` of this crate generates `mcc.h` from it, and both
//! sides assert that their structures have this layout.
//!
//! Models are for 64-bit targets: pointers and `size_t` have 8 bytes.

use crate::raw::{RawModel, RawPool, RawPort, RawTensor};

/// Version of the interface, in every model's descriptor.
pub const VERSION: i32 = 3;

/// Alignment in bytes of every arena.
pub const ARENA_ALIGN: usize = 64;

/// Number of a code's low bits that hold its kind; the bits above are the number of a requirement, counted from 1.
pub const KIND_BITS: u32 = 8;

macro_rules! statuses {
    ($($name:ident = $code:literal $c:ident $message:literal,)*) => {
        /// Kinds of codes that a model's functions return.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Status {
            $(#[doc = $message] $name = $code,)*
        }

        /// All kinds: code, name in C, message.
        pub const STATUSES: &[(Status, &str, &str)] = &[$((Status::$name, stringify!($c), $message),)*];
    };
}

statuses! {
    Ok = 0 MCC_OK "ok",
    NullPointer = 1 MCC_NULL_POINTER "a pointer is null",
    WrongRank = 2 MCC_WRONG_RANK "a tensor has the wrong number of dimensions",
    WrongDtype = 3 MCC_WRONG_DTYPE "a tensor has the wrong element type",
    WrongDimension = 4 MCC_WRONG_DIMENSION "a tensor has a wrong dimension, or two that must be equal are not",
    ArenaTooSmall = 5 MCC_ARENA_TOO_SMALL "the arena is too small",
    MisalignedArena = 6 MCC_MISALIGNED_ARENA "the arena is not aligned to 64 bytes",
    BadValue = 7 MCC_BAD_VALUE "the inputs' values are not what the model requires",
    CpuLacksFeature = 8 MCC_CPU_LACKS_FEATURE "the processor lacks an extension that the model was compiled for",
    TooLarge = 9 MCC_TOO_LARGE "the dimensions make a tensor larger than can be addressed",
    WrongWeights = 10 MCC_WRONG_WEIGHTS "the weights are not those that were written with the model",
}

/// An element type as callers see it. Types of less than a byte take a byte per element; so do booleans, 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    /// The number in ONNX.
    pub code: i32,
    /// The number's name in C.
    pub name: &'static str,
    /// C type of an element.
    pub c_type: &'static str,
}

const fn element(code: i32, name: &'static str, c_type: &'static str) -> ElementType {
    ElementType { code, name, c_type }
}

/// All element types, by number.
pub const ELEMENTS: &[ElementType] = &[
    element(1, "MCC_F32", "float"),
    element(2, "MCC_U8", "uint8_t"),
    element(3, "MCC_I8", "int8_t"),
    element(4, "MCC_U16", "uint16_t"),
    element(5, "MCC_I16", "int16_t"),
    element(6, "MCC_I32", "int32_t"),
    element(7, "MCC_I64", "int64_t"),
    element(9, "MCC_BOOL", "uint8_t"),
    element(10, "MCC_F16", "uint16_t"),
    element(11, "MCC_F64", "double"),
    element(12, "MCC_U32", "uint32_t"),
    element(13, "MCC_U64", "uint64_t"),
    element(16, "MCC_BF16", "uint16_t"),
    element(17, "MCC_F8E4M3FN", "uint8_t"),
    element(18, "MCC_F8E4M3FNUZ", "uint8_t"),
    element(19, "MCC_F8E5M2", "uint8_t"),
    element(20, "MCC_F8E5M2FNUZ", "uint8_t"),
    element(21, "MCC_U4", "uint8_t"),
    element(22, "MCC_I4", "int8_t"),
    element(23, "MCC_F4E2M1", "uint8_t"),
    element(24, "MCC_F8E8M0", "uint8_t"),
    element(25, "MCC_U2", "uint8_t"),
    element(26, "MCC_I2", "int8_t"),
];

/// The row of an element type's number, if there is one.
pub fn element_type(code: i32) -> Option<&'static ElementType> {
    ELEMENTS.iter().find(|row| row.code == code)
}

/// The layout of a structure: its name in C, its size, and the offset of each field.
pub struct Layout {
    /// Name in C.
    pub name: &'static str,
    /// Size in bytes.
    pub bytes: usize,
    /// Fields and their offsets in bytes.
    pub fields: &'static [(&'static str, usize)],
}

macro_rules! layouts {
    ($($(#[$doc:meta])* $module:ident $c:literal $raw:ident $bytes:literal { $($constant:ident $field:ident $at:literal,)* })*) => {
        $(
            $(#[$doc])*
            pub mod $module {
                /// Size in bytes.
                pub const BYTES: usize = $bytes;
                $(
                    #[doc = concat!("Offset of `", stringify!($field), "` in bytes.")]
                    pub const $constant: usize = $at;
                )*
            }
            #[cfg(target_pointer_width = "64")]
            const _: () = {
                assert!(size_of::<$raw>() == $bytes);
                $(assert!(core::mem::offset_of!($raw, $field) == $at);)*
            };
        )*

        /// All structures.
        pub const LAYOUTS: &[Layout] =
            &[$(Layout { name: $c, bytes: $bytes, fields: &[$((stringify!($field), $at),)*] },)*];
    };
}

layouts! {
    /// [`RawTensor`].
    tensor "mcc_tensor" RawTensor 24 {
        DATA data 0,
        DIMS dims 8,
        RANK rank 16,
        DTYPE dtype 20,
    }
    /// [`RawPort`].
    port "mcc_port" RawPort 32 {
        NAME name 0,
        DIMS dims 8,
        DIM_NAMES dim_names 16,
        RANK rank 24,
        DTYPE dtype 28,
    }
    /// [`RawPool`].
    pool "mcc_pool" RawPool 24 {
        CONTEXT context 0,
        PARALLEL_FOR parallel_for 8,
        THREADS threads 16,
    }
    /// [`RawModel`].
    model "mcc_model" RawModel 88 {
        ABI_VERSION abi_version 0,
        INPUT_COUNT input_count 4,
        OUTPUT_COUNT output_count 8,
        THREADS threads 12,
        NAME name 16,
        INPUTS inputs 24,
        OUTPUTS outputs 32,
        ARENA_SIZE arena_size 40,
        SHAPES shapes 48,
        INVOKE invoke 56,
        CPU_FEATURES cpu_features 64,
        REQUIREMENTS requirements 72,
        REQUIREMENT_COUNT requirement_count 80,
    }
}
