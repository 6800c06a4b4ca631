//! The program of a block, whose trained weights are inputs.

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::{Result, Tensor, TensorType};
use mcc_onnx::order::{NodeOrder, initialized};
use mcc_onnx::tensor;
use mcc_proto::tensor_shape_proto::{Dimension, DimensionValue};
use mcc_proto::type_proto::{self, Value};
use mcc_proto::{GraphProto, Message, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto};

use super::program::Program;
use crate::model::Model;

/// The program that computes `outputs` from inputs of given types, with gradients by `trained` ones.
///
/// # Errors
/// When an operation has no gradients, or the part is not valid.
pub fn program(
    model: &Model,
    inputs: &BTreeMap<String, TensorType>,
    outputs: &[String],
    trained: &BTreeSet<String>,
    options: &mcc::Options,
) -> Result<Program> {
    let graph = model.graph();
    // Who gives an input is not part of it.
    let outside = |node: &&NodeProto| !node.output.iter().any(|o| inputs.contains_key(o));
    let nodes: Vec<NodeProto> = graph.node.iter().filter(outside).cloned().collect();
    let others = initialized(graph).filter(|name| !inputs.contains_key(*name));
    let given = inputs.keys().map(String::as_str).chain(others);
    let plan = NodeOrder::new(&nodes, given, outputs.iter().map(String::as_str))?;
    let needs = |name: &str| plan.needs.contains(name) && !inputs.contains_key(name);
    let part = GraphProto {
        node: plan.order.iter().map(|&n| nodes[n].clone()).collect(),
        initializer: graph.initializer.iter().filter(|t| needs(&t.name)).cloned().collect(),
        sparse_initializer: graph
            .sparse_initializer
            .iter()
            .filter(|t| t.values.as_ref().is_some_and(|v| needs(&v.name)))
            .cloned()
            .collect(),
        input: inputs.iter().filter(|(name, _)| plan.needs.contains(name.as_str())).map(|(n, t)| info(n, t)).collect(),
        output: outputs.iter().map(|n| ValueInfoProto { name: n.clone(), ..Default::default() }).collect(),
        name: graph.name.clone(),
        ..Default::default()
    };
    let proto = ModelProto { graph: Some(part), ..header(model.proto()) };
    let graph = mcc::driver::import(bytes::Bytes::from(proto.encode_to_vec()), options)?;
    Program::new(&graph, trained)
}

/// A model's message without its graph.
fn header(proto: &ModelProto) -> ModelProto {
    ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        functions: proto.functions.clone(),
        ..Default::default()
    }
}

fn info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let extents = ty.fixed_shape().unwrap_or_default();
    let value = |&e: &usize| Some(DimensionValue::DimValue(e as i64));
    let dim = extents.iter().map(|e| Dimension { value: value(e), ..Default::default() }).collect();
    let elem_type = tensor::proto("", &Tensor::zeros(ty.dtype, Vec::new())).data_type;
    let value = Value::TensorType(type_proto::Tensor { elem_type, shape: Some(TensorShapeProto { dim }) });
    let r#type = Some(TypeProto { value: Some(value), ..Default::default() });
    ValueInfoProto { name: name.to_string(), r#type, ..Default::default() }
}
