//! The ONNX file format as [`prost`] messages.
//!
//! The types are written by hand after `onnx.proto`, which is beside this crate's manifest, so that building needs no
//! `protoc`. A test compares the two, and another checks both with messages that the `onnx` package wrote with every
//! field set.
//!
//! Conventions:
//! - Messages that are nested in the format are in a module with the outer one's name, such as
//!   [`tensor_proto::DataType`]; everything else is at the root.
//! - An absent scalar reads as its default (0, `""`), since absence has no meaning in ONNX; only [`AttributeProto`]
//!   preserves the presence of `f`, `i` and `s`.
//! - Fields that hold an enumerator are `i32`; the getter with the same name returns the enum, or its default
//!   (`Undefined`) for an unknown number.
//! - `bytes` fields are [`bytes::Bytes`]: when decoded from a `Bytes`, for instance one that owns a memory map, they
//!   are slices of it and copy nothing. So weights in `raw_data` take no memory.
//!
//! ```
//! use mcc_proto::{Message, ModelProto};
//! # let file = ModelProto { ir_version: 10, ..Default::default() }.encode_to_vec();
//! let model = ModelProto::decode(bytes::Bytes::from(file))?;
//! assert_eq!(model.ir_version, 10);
//! # Ok::<(), mcc_proto::DecodeError>(())
//! ```

mod data;
mod device;
mod model;
mod tensor;
mod types;

pub use data::{MapProto, OptionalProto, SequenceProto, ValueKind};
pub use device::{
    DeviceConfigurationProto, IntIntListEntryProto, NodeDeviceConfigurationProto, ShardedDimProto, ShardingSpecProto,
    SimpleShardedDimProto, simple_sharded_dim_proto,
};
pub use model::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorAnnotation, TrainingInfoProto, ValueInfoProto, attribute_proto,
};
pub use prost::{DecodeError, Message};
pub use tensor::{SparseTensorProto, TensorProto, tensor_proto};
pub use types::{TensorShapeProto, TypeProto, tensor_shape_proto, type_proto};
