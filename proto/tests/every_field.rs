//! Each message that the `onnx` package wrote with every field set decodes, and encodes to as many
//! bytes of each value. An unknown field, or one of another wire type, would be lost or refused.

use mcc_proto::*;

fn check<M: Message + Default + std::fmt::Debug>(name: &str, bytes: &[u8]) {
    let message = M::decode(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(sorted(&message.encode_to_vec()), sorted(bytes), "{name}: {message:#?}");
}

/// prost puts a oneof where its lowest number stands, the `onnx` package each field by its own.
fn sorted(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.sort_unstable();
    bytes
}

#[test]
fn every_field_of_every_message_survives() {
    for line in include_str!("every_field.txt").lines() {
        let (name, hex) = line.split_once(' ').expect("name and hex");
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect();
        let check = match name {
            "AttributeProto" => check::<AttributeProto>,
            "DeviceConfigurationProto" => check::<DeviceConfigurationProto>,
            "FunctionProto" => check::<FunctionProto>,
            "GraphProto" => check::<GraphProto>,
            "IntIntListEntryProto" => check::<IntIntListEntryProto>,
            "MapProto" => check::<MapProto>,
            "ModelProto" => check::<ModelProto>,
            "NodeDeviceConfigurationProto" => check::<NodeDeviceConfigurationProto>,
            "NodeProto" => check::<NodeProto>,
            "OperatorSetIdProto" => check::<OperatorSetIdProto>,
            "OptionalProto" => check::<OptionalProto>,
            "SequenceProto" => check::<SequenceProto>,
            "ShardedDimProto" => check::<ShardedDimProto>,
            "ShardingSpecProto" => check::<ShardingSpecProto>,
            "SimpleShardedDimProto" => check::<SimpleShardedDimProto>,
            "SparseTensorProto" => check::<SparseTensorProto>,
            "StringStringEntryProto" => check::<StringStringEntryProto>,
            "TensorAnnotation" => check::<TensorAnnotation>,
            "TensorProto" => check::<TensorProto>,
            "TensorProto.Segment" => check::<tensor_proto::Segment>,
            "TensorShapeProto" => check::<TensorShapeProto>,
            "TensorShapeProto.Dimension" => check::<tensor_shape_proto::Dimension>,
            "TrainingInfoProto" => check::<TrainingInfoProto>,
            "TypeProto" => check::<TypeProto>,
            "TypeProto.Map" => check::<type_proto::Map>,
            "TypeProto.Opaque" => check::<type_proto::Opaque>,
            "TypeProto.Optional" => check::<type_proto::Optional>,
            "TypeProto.Sequence" => check::<type_proto::Sequence>,
            "TypeProto.SparseTensor" => check::<type_proto::SparseTensor>,
            "TypeProto.Tensor" => check::<type_proto::Tensor>,
            "ValueInfoProto" => check::<ValueInfoProto>,
            _ => panic!("no type for {name}"),
        };
        check(name, &bytes);
    }
}

#[test]
fn raw_data_is_a_slice_of_the_file() {
    let weights: Vec<u8> = (0..200).collect();
    let tensor = TensorProto {
        dims: vec![50],
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: weights.clone().into(),
        ..Default::default()
    };
    let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
    let model = ModelProto { graph: Some(graph), ..Default::default() };
    let file = bytes::Bytes::from(model.encode_to_vec());
    let read = ModelProto::decode(file.clone()).expect("own encoding");
    let raw = &read.graph.as_ref().expect("graph").initializer[0].raw_data;
    assert_eq!(raw[..], weights[..]);
    assert!(file.as_ptr_range().contains(&raw.as_ptr()));
}

#[test]
fn repeated_numbers_decode_packed_and_unpacked() {
    // Field 8, `ints`: length-delimited (0x42) and one by one (0x40).
    let both = [0x42, 3, 1, 0xac, 0x02, 0x40, 7];
    let attribute = AttributeProto::decode(&both[..]).expect("valid");
    assert_eq!(attribute.ints, [1, 300, 7]);
}
