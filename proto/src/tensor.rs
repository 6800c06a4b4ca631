//! Tensors with their elements.

use crate::StringStringEntryProto;
use bytes::Bytes;

/// A constant tensor.
///
/// Its elements are in `raw_data`, or in the one typed field that serves `data_type`, or, where
/// `data_location` is EXTERNAL, in a file that `external_data` names.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    /// The shape; empty for a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The element type.
    #[prost(enumeration = "tensor_proto::DataType", tag = "2")]
    pub data_type: i32,
    /// Which part of a larger tensor this is; no known writer sets it.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<tensor_proto::Segment>,
    /// FLOAT, and COMPLEX64 as pairs.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Every integer of 32 bits and less but UINT32, BOOL, and the bits of the small floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// STRING.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// INT64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The tensor's name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The elements in row-major order, little-endian; types under a byte are packed from the low
    /// bits up.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    /// DOUBLE, and COMPLEX128 as pairs.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// UINT32 and UINT64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Human-readable text.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Keys: `location` (a path relative to the model), `offset`, `length`, `checksum`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Whether the elements are in this message or in a file.
    #[prost(enumeration = "tensor_proto::DataLocation", tag = "14")]
    pub data_location: i32,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// What [`TensorProto`] nests.
pub mod tensor_proto {
    /// Element types.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum DataType {
        /// Not set.
        Undefined = 0,
        /// IEEE binary32.
        Float = 1,
        /// 8-bit unsigned.
        Uint8 = 2,
        /// 8-bit signed.
        Int8 = 3,
        /// 16-bit unsigned.
        Uint16 = 4,
        /// 16-bit signed.
        Int16 = 5,
        /// 32-bit signed.
        Int32 = 6,
        /// 64-bit signed.
        Int64 = 7,
        /// UTF-8 text.
        String = 8,
        /// One byte, 0 or 1.
        Bool = 9,
        /// IEEE binary16.
        Float16 = 10,
        /// IEEE binary64.
        Double = 11,
        /// 32-bit unsigned.
        Uint32 = 12,
        /// 64-bit unsigned.
        Uint64 = 13,
        /// A pair of binary32.
        Complex64 = 14,
        /// A pair of binary64.
        Complex128 = 15,
        /// The upper half of a binary32.
        Bfloat16 = 16,
        /// 4 bits of exponent, 3 of mantissa, no infinities.
        Float8e4m3fn = 17,
        /// The same with exponent bias 8 and no negative zero.
        Float8e4m3fnuz = 18,
        /// 5 bits of exponent, 2 of mantissa.
        Float8e5m2 = 19,
        /// The same with exponent bias 16, no infinities and no negative zero.
        Float8e5m2fnuz = 20,
        /// 4-bit unsigned, two a byte.
        Uint4 = 21,
        /// 4-bit signed, two a byte.
        Int4 = 22,
        /// 2 bits of exponent, 1 of mantissa, two a byte.
        Float4e2m1 = 23,
        /// A power of two: 8 bits of exponent and no sign.
        Float8e8m0 = 24,
        /// 2-bit unsigned, four a byte.
        Uint2 = 25,
        /// 2-bit signed, four a byte.
        Int2 = 26,
        /// 2 bits of exponent, 3 of mantissa.
        Float6e2m3 = 27,
        /// 3 bits of exponent, 2 of mantissa.
        Float6e3m2 = 28,
    }

    /// Where a tensor's elements are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum DataLocation {
        /// In the message.
        Default = 0,
        /// In a file that `external_data` names.
        External = 1,
    }

    /// A range of a larger tensor.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct Segment {
        /// The first element.
        #[prost(int64, tag = "1")]
        pub begin: i64,
        /// One past the last element.
        #[prost(int64, tag = "2")]
        pub end: i64,
    }
}

/// A constant tensor that is mostly zero.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SparseTensorProto {
    /// The elements that are not zero, of shape `[n]`; its name is the sparse tensor's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they lie: INT64 `[n]`, positions in the flattened tensor, or `[n, rank]`.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The shape of the whole.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}
