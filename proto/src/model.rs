//! Models, graphs, nodes and their attributes.

use crate::{DeviceConfigurationProto, NodeDeviceConfigurationProto, SparseTensorProto, TensorProto, TypeProto};
use bytes::Bytes;

/// A file: a graph, the operator sets that it uses, and the functions that it defines.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    /// The version of the file format, not of the operators.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The tool that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// That tool's version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// A reverse-DNS name space for the model's name.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// The author's version of the model.
    #[prost(int64, tag = "5")]
    pub model_version: i64,
    /// Human-readable text.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The graph; present in every valid file.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// One entry per domain, which determines the versions of its operators.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// How to train; not used for inference.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// Operators that the model defines by a list of nodes.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
    /// Device placements that nodes refer to.
    #[prost(message, repeated, tag = "26")]
    pub configuration: Vec<DeviceConfigurationProto>,
}

/// An operator set: domain `""`, also spelt `ai.onnx`, is the standard one.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct OperatorSetIdProto {
    /// The operators' name space.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version of that domain's operators.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// One pair of a string-to-string map.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// How to start and step a training run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrainingInfoProto {
    /// Computes the initial values of the trained tensors.
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<GraphProto>,
    /// Computes one step.
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<GraphProto>,
    /// Which initializer is assigned which output of `initialization`.
    #[prost(message, repeated, tag = "3")]
    pub initialization_binding: Vec<StringStringEntryProto>,
    /// Which initializer is assigned which output of `algorithm`.
    #[prost(message, repeated, tag = "4")]
    pub update_binding: Vec<StringStringEntryProto>,
}

/// An operator defined by a list of nodes.
///
/// The nodes refer to the function's attributes by name, with [`AttributeProto::ref_attr_name`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct FunctionProto {
    /// The operator's name in `domain`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of the formal inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the values that are the outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Attributes without a default value.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// The body, in topological order.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// Human-readable text.
    #[prost(string, tag = "8")]
    pub doc_string: String,
    /// The operator sets of the body; they may differ from the model's.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The name space of `name`.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with a default value.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// Types of values in the body.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Distinguishes functions with the same domain and name; nodes give it in their `overload`.
    #[prost(string, tag = "13")]
    pub overload: String,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Nodes in topological order, which refer to values by name.
///
/// A graph that is an attribute (the body of If, Loop, Scan) also sees the names around it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The graph's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants; one whose name is also in `input` is that input's default.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Human-readable text.
    #[prost(string, tag = "10")]
    pub doc_string: String,
    /// Inputs with their types.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs with their types.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of other values.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Scales and zero points that belong to values.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Constants in sparse form; the name is that of `values`.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// One application of an operator. An empty name is an omitted optional value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    /// Names of the values read.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values computed.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The node's own name, often absent.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator's name in `domain`.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The attributes that are set.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Human-readable text.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The operator's name space.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Selects one of several functions with the same name.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// The devices on which the node runs.
    #[prost(message, repeated, tag = "10")]
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
}

/// A named attribute; `type` says which value field is used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    /// The attribute's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// FLOAT.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// INT.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// STRING, UTF-8 by convention only.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// TENSOR.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// GRAPH.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// FLOATS.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// INTS.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// STRINGS.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// TENSORS.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// GRAPHS.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// Human-readable text.
    #[prost(string, tag = "13")]
    pub doc_string: String,
    /// TYPE_PROTO.
    #[prost(message, optional, tag = "14")]
    pub tp: Option<TypeProto>,
    /// TYPE_PROTOS.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
    /// Which field holds the value.
    #[prost(enumeration = "attribute_proto::AttributeType", tag = "20")]
    pub r#type: i32,
    /// Within a function: the function's attribute whose value this one takes.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// SPARSE_TENSOR.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// SPARSE_TENSORS.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

/// What [`AttributeProto`] nests.
pub mod attribute_proto {
    /// The kinds of attribute values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum AttributeType {
        /// Not set: files of IR version 1 only.
        Undefined = 0,
        /// `f`
        Float = 1,
        /// `i`
        Int = 2,
        /// `s`
        String = 3,
        /// `t`
        Tensor = 4,
        /// `g`
        Graph = 5,
        /// `floats`
        Floats = 6,
        /// `ints`
        Ints = 7,
        /// `strings`
        Strings = 8,
        /// `tensors`
        Tensors = 9,
        /// `graphs`
        Graphs = 10,
        /// `sparse_tensor`
        SparseTensor = 11,
        /// `sparse_tensors`
        SparseTensors = 12,
        /// `tp`
        TypeProto = 13,
        /// `type_protos`
        TypeProtos = 14,
    }
}

/// A value's name and type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    /// The value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Human-readable text.
    #[prost(string, tag = "3")]
    pub doc_string: String,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Names the tensors that hold a value's scale and zero point.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorAnnotation {
    /// The value.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// From `SCALE_TENSOR` and `ZERO_POINT_TENSOR` to the names of initializers.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}
