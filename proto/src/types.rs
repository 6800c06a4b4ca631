//! Types of values.

/// The type of a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    /// The kind, with what it is made of.
    #[prost(oneof = "type_proto::Value", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<type_proto::Value>,
    /// A conventional name for what the value stands for.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// What [`TypeProto`] nests.
pub mod type_proto {
    use crate::tensor_proto::DataType;
    use crate::{TensorShapeProto, TypeProto};

    /// The kinds of types.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        /// A dense tensor.
        #[prost(message, tag = "1")]
        TensorType(Tensor),
        /// A list of values of one type.
        #[prost(message, tag = "4")]
        SequenceType(Box<Sequence>),
        /// A map from integers or strings to values of one type.
        #[prost(message, tag = "5")]
        MapType(Box<Map>),
        /// A type that only its operators know.
        #[prost(message, tag = "7")]
        OpaqueType(Opaque),
        /// A sparse tensor.
        #[prost(message, tag = "8")]
        SparseTensorType(SparseTensor),
        /// A value or nothing.
        #[prost(message, tag = "9")]
        OptionalType(Box<Optional>),
    }

    /// A dense tensor; without a shape its rank is unknown, without dimensions it is a scalar.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tensor {
        /// The element type.
        #[prost(enumeration = "DataType", tag = "1")]
        pub elem_type: i32,
        /// The shape.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// A list of values of one type.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sequence {
        /// The type of each value.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// A map to values of one type.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Map {
        /// The type of the keys: an integer or STRING.
        #[prost(enumeration = "DataType", tag = "1")]
        pub key_type: i32,
        /// The type of each value.
        #[prost(message, optional, boxed, tag = "2")]
        pub value_type: Option<Box<TypeProto>>,
    }

    /// A value or nothing.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Optional {
        /// The value's type.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// A sparse tensor.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SparseTensor {
        /// The element type.
        #[prost(enumeration = "DataType", tag = "1")]
        pub elem_type: i32,
        /// The shape.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// A type that only its operators know.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
    pub struct Opaque {
        /// The name space of `name`.
        #[prost(string, tag = "1")]
        pub domain: String,
        /// The type's name.
        #[prost(string, tag = "2")]
        pub name: String,
    }
}

/// A shape: some dimensions known, some named, some neither.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    /// The dimensions, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<tensor_shape_proto::Dimension>,
}

/// What [`TensorShapeProto`] nests.
pub mod tensor_shape_proto {
    /// One dimension; without a value it is unknown and unrelated to any other.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
    pub struct Dimension {
        /// Its size or name.
        #[prost(oneof = "DimensionValue", tags = "1, 2")]
        pub value: Option<DimensionValue>,
        /// A conventional name for what the dimension stands for.
        #[prost(string, tag = "3")]
        pub denotation: String,
    }

    /// A dimension's size or name.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum DimensionValue {
        /// The size.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// A name: dimensions of one name are equal.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}
