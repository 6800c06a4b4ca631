//! Values other than tensors, as in test data.

use crate::{SparseTensorProto, TensorProto};
use bytes::Bytes;

/// The kind of elements of a [`SequenceProto`] or an [`OptionalProto`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ValueKind {
    /// Not set.
    Undefined = 0,
    /// Dense tensors.
    Tensor = 1,
    /// Sparse tensors.
    SparseTensor = 2,
    /// Sequences.
    Sequence = 3,
    /// Maps.
    Map = 4,
    /// Optionals.
    Optional = 5,
}

/// A list of values; `elem_type` says which repeated field is used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SequenceProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The kind of the elements.
    #[prost(enumeration = "ValueKind", tag = "2")]
    pub elem_type: i32,
    /// TENSOR.
    #[prost(message, repeated, tag = "3")]
    pub tensor_values: Vec<TensorProto>,
    /// SPARSE_TENSOR.
    #[prost(message, repeated, tag = "4")]
    pub sparse_tensor_values: Vec<SparseTensorProto>,
    /// SEQUENCE.
    #[prost(message, repeated, tag = "5")]
    pub sequence_values: Vec<SequenceProto>,
    /// MAP.
    #[prost(message, repeated, tag = "6")]
    pub map_values: Vec<MapProto>,
    /// OPTIONAL.
    #[prost(message, repeated, tag = "7")]
    pub optional_values: Vec<OptionalProto>,
}

/// A map; `values` has one value per key, in the same order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MapProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type of the keys.
    #[prost(enumeration = "crate::tensor_proto::DataType", tag = "2")]
    pub key_type: i32,
    /// Integer keys of any width.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub keys: Vec<i64>,
    /// STRING keys.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub string_keys: Vec<Bytes>,
    /// One value per key.
    #[prost(message, optional, tag = "5")]
    pub values: Option<SequenceProto>,
}

/// A value or none; without one, no value field is set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionalProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The kind of the value.
    #[prost(enumeration = "ValueKind", tag = "2")]
    pub elem_type: i32,
    /// TENSOR.
    #[prost(message, optional, tag = "3")]
    pub tensor_value: Option<TensorProto>,
    /// SPARSE_TENSOR.
    #[prost(message, optional, tag = "4")]
    pub sparse_tensor_value: Option<SparseTensorProto>,
    /// SEQUENCE.
    #[prost(message, optional, tag = "5")]
    pub sequence_value: Option<SequenceProto>,
    /// MAP.
    #[prost(message, optional, tag = "6")]
    pub map_value: Option<MapProto>,
    /// OPTIONAL.
    #[prost(message, optional, boxed, tag = "7")]
    pub optional_value: Option<Box<OptionalProto>>,
}
