//! Scan before version 9: of a batch.

use mcc_ir::{Error, Result};
use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

use super::change::{Change, int};

/// Scan 9 has no batch: a Scan over the batch runs one over the sequence.
///
/// Its nodes need no further change: no later version changes Scan, and the body has been raised.
pub fn batch(c: &mut Change<'_, '_>) -> Result<()> {
    if !c.input(0).is_empty() {
        return Err(Error::unsupported("lengths of sequences (input sequence_lens)"));
    }
    let body = c.take("body").and_then(|a| a.g).ok_or_else(|| Error::invalid("attribute body is missing"))?;
    let scanned = c.int("num_scan_inputs", 0)?;
    let operands: Vec<String> = c.node.input.drain(1..).collect();
    let inputs: Vec<String> = operands.iter().map(|_| c.fresh("of_one")).collect();
    let outputs: Vec<String> = body.output.iter().map(|_| c.fresh("of_one")).collect();
    let mut attribute = vec![graph("body", body), int("num_scan_inputs", scanned)];
    if let Some(directions) = c.take("directions") {
        attribute.push(AttributeProto { name: "scan_input_directions".into(), ..directions });
    }
    let sequence = NodeProto {
        op_type: "Scan".into(),
        name: c.fresh("sequence"),
        input: inputs.clone(),
        output: outputs.clone(),
        attribute,
        ..Default::default()
    };
    let info = |name: &String| ValueInfoProto { name: name.clone(), ..Default::default() };
    let over_batch = GraphProto {
        name: c.fresh("batch"),
        node: vec![sequence],
        input: inputs.iter().map(info).collect(),
        output: outputs.iter().map(info).collect(),
        ..Default::default()
    };
    c.set(int("num_scan_inputs", operands.len() as i64));
    c.node.input = operands;
    c.set(graph("body", over_batch));
    Ok(())
}

fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.into(), g: Some(graph), r#type: AttributeType::Graph as i32, ..Default::default() }
}
