//! The ONNX file format as [`prost`] messages.
//!
//! The types are written by hand after `onnx.proto`, which lies beside this crate's manifest, so
//! that no `protoc` is needed to build; a test holds the two in step, and another checks both
//! against messages that the `onnx` package wrote with every field set.
//!
//! Conventions:
//! - Messages that the format nests live in a module of the outer one's name, as in
//!   [`tensor_proto::DataType`]; everything else is at the root.
//! - A scalar that is absent reads as its default (0, `""`), since ONNX gives absence no meaning of
//!   its own; only [`AttributeProto`] keeps the presence of `f`, `i` and `s`.
//! - Fields that hold an enumerator are `i32`; the getter of the same name answers the enum, and
//!   its default (`Undefined`) for a number that it does not know.
//! - `bytes` fields are [`bytes::Bytes`]: decoded from a `Bytes`, for instance one that owns a
//!   memory map, they are slices of it and copy nothing. So weights in `raw_data` cost no memory.
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
