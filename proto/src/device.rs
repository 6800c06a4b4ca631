//! Placement on several devices, which mcc ignores.

/// A set of devices that nodes refer to by name.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct DeviceConfigurationProto {
    /// The configuration's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The number of its devices.
    #[prost(int32, tag = "2")]
    pub num_devices: i32,
    /// Their names, if they have any.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// How one node runs with one configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeDeviceConfigurationProto {
    /// The configuration's name.
    #[prost(string, tag = "1")]
    pub configuration_id: String,
    /// How the node's tensors are split.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// The pipeline stage.
    #[prost(int32, tag = "3")]
    pub pipeline_stage: i32,
}

/// How one tensor is split over devices.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShardingSpecProto {
    /// The tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// The devices or device groups.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// The devices of each group.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// The split axes.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// One entry of a map from an integer to a list.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct IntIntListEntryProto {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Its list.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// How one axis is split.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShardedDimProto {
    /// The axis.
    #[prost(int64, tag = "1")]
    pub axis: i64,
    /// Its parts, if it stands for several dimensions.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// One dimension split into equal parts.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SimpleShardedDimProto {
    /// The dimension's size or name.
    #[prost(oneof = "simple_sharded_dim_proto::Dim", tags = "1, 2")]
    pub dim: Option<simple_sharded_dim_proto::Dim>,
    /// The number of parts.
    #[prost(int64, tag = "3")]
    pub num_shards: i64,
}

/// Types nested in [`SimpleShardedDimProto`].
pub mod simple_sharded_dim_proto {
    /// A dimension's size or name.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum Dim {
        /// The size.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// The name.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}
