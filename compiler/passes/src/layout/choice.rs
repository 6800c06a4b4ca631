//! Chooses the operations that stay channels-first.
//!
//! Every operation with spatial axes has a cost in either layout, and every value that is made in one layout and read
//! in the other must be transposed once, however many readers there are. Dense convolutions have channels-last kernels
//! only; those with single non-zeros (`csr`) read and store either layout independently, channels-first at lower cost;
//! element-wise operations take the layout of their neighbours; inputs and outputs of the graph, and operations without
//! layout, are channels-first. The cheapest assignment is a minimum cut, see [`cut`](super::cut).
//!
//! Costs are predictions; only time depends on them. If costs are equal, an operation becomes channels-last.

use std::collections::{HashMap, HashSet};

use mcc_targets::schedule::layout::Window;
use mcc_targets::schedule::sparse::Costs;
use mcc_targets::{Config, Sparsity, schedule};

use super::cut::{FORBIDDEN, Network, Variable};
use crate::quantize::int8_contractions;
use crate::sparse::{blocks, csr};
use crate::support::size::estimate;
use mcc_ir::{Decision, Dim, Graph, Layout, NodeId, Op, Subject, TensorType, Traits, Value};

/// The layouts that an operation supports.
enum Role {
    /// A convolution that may use its non-zeros only.
    Sparse(Costs),
    /// Channels-last at any cost.
    Last,
    /// One layout for all operands and results, at these costs in nanoseconds.
    Either { first: f64, last: f64 },
    /// Channels-first, or without channels.
    First,
    /// Any layout without cost; transposes move past it.
    Any,
}

/// The operations whose results stay channels-first.
pub(super) fn channels_first(graph: &mut Graph, config: &Config) -> HashSet<NodeId> {
    let order = graph.topological();
    let mut network = Network::new();
    let outside = network.variable();
    network.alone(outside, [0, FORBIDDEN]);
    let mut labels: HashMap<NodeId, Labels> = HashMap::new();
    for &node in &order {
        if let Some(l) = Labels::of(graph, node, config, &mut network, outside) {
            labels.insert(node, l);
        }
    }
    for &node in &order {
        let Some(from) = labels.get(&node) else { continue };
        for (result, ty) in graph.types(node).iter().enumerate() {
            let value = Value { node, result };
            let mut to: Vec<Variable> = graph
                .users(value)
                .into_iter()
                .filter(|&(user, operand)| reads_channels(graph, user, operand, ty.rank()))
                .filter_map(|(user, _)| labels.get(&user).map(|l| l.read))
                .collect();
            if graph.is_output(value) {
                to.push(outside);
            }
            let cost = picoseconds(schedule::layout::transpose(&config.target, turned(ty)));
            network.any_second(from.stored, &to, cost);
            network.any_first(from.stored, &to, cost);
        }
    }
    let is_first = network.solve();
    let mut first = HashSet::new();
    for node in order {
        let Some(l) = labels.get(&node).filter(|l| l.stored != outside && is_first(l.stored)) else { continue };
        first.insert(node);
        if let Some(saved) = l.saved {
            let reason = format!("its planes need no transpose: predicted {:.0} us less", saved / 1e3);
            let decision =
                Decision::new(graph.label(node), Subject::Layout, graph.op(node).name(), "channels-first", reason);
            graph.decide(decision);
        }
    }
    first
}

/// The variables of an operation: the layout of its operands and that of its results.
struct Labels {
    read: Variable,
    stored: Variable,
    /// Nanoseconds that a convolution saves with channels-first operands and results.
    saved: Option<f64>,
}

impl Labels {
    fn of(graph: &Graph, node: NodeId, config: &Config, network: &mut Network, outside: Variable) -> Option<Labels> {
        let one = |read: Variable| Some(Labels { read, stored: read, saved: None });
        match role(graph, node, config) {
            Role::Any => None,
            Role::First => one(outside),
            Role::Last => {
                let v = network.variable();
                network.alone(v, [FORBIDDEN, 0]);
                one(v)
            }
            Role::Either { first, last } => {
                let v = network.variable();
                network.alone(v, [picoseconds(first), picoseconds(last)]);
                one(v)
            }
            Role::Sparse(costs) => {
                let (read, stored) = (network.variable(), network.variable());
                let planes = |read, stored| picoseconds(costs.planes([read, stored]));
                let sparse = config.sparsity == Sparsity::Force || costs.pays();
                let last = picoseconds(if sparse { costs.sparse } else { costs.to_beat() });
                let table = [[planes(true, true), planes(true, false)], [planes(false, true), last]];
                network.together(read, stored, table);
                Some(Labels { read, stored, saved: Some(costs.saved.iter().sum()) })
            }
        }
    }
}

fn role(graph: &Graph, node: NodeId, config: &Config) -> Role {
    let operands = graph.operands(node);
    let Some(x) = operands.first().map(|&v| graph.ty(v)) else {
        return if let Op::Constant(_) = graph.op(node) { Role::Any } else { Role::First };
    };
    if x.rank() < 3 {
        return Role::First;
    }
    let results = estimate(&graph.types(node)[0]).unsigned_abs();
    let window = |taps: i64| Window { results, taps: taps.unsigned_abs() };
    let either = |[first, last]: [f64; 2]| Role::Either { first, last };
    match graph.op(node) {
        Op::Conv(spec) if spec.layout == Layout::ChannelsFirst => {
            let taken = int8_contractions::applies(graph, node, &config.target) || blocks::applies(graph, node, config);
            match csr::costs(graph, node, config).filter(|_| !taken) {
                Some(costs) => Role::Sparse(costs),
                None => Role::Last,
            }
        }
        Op::ConvTranspose { .. } => Role::Last,
        Op::Pool(spec) if spec.layout == Layout::ChannelsFirst => {
            either(schedule::layout::windows(&config.target, window(spec.kernel.iter().product())))
        }
        Op::Resize { sizes, .. } if sizes[..2] == x.shape[..2] => {
            either(schedule::layout::windows(&config.target, window(4)))
        }
        op if op.is(Traits::KEEPS_AXES) => either([0.0; 2]),
        Op::Reduce { .. } => either([0.0; 2]),
        Op::Transpose { .. } | Op::Broadcast { .. } | Op::Constant(_) => Role::Any,
        _ => Role::First,
    }
}

/// Whether an operand of a rank has channels whose layout matters to the user.
fn reads_channels(graph: &Graph, user: NodeId, operand: usize, rank: usize) -> bool {
    match graph.op(user) {
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::Pool(_) | Op::Resize { .. } => operand == 0,
        Op::Reduce { .. } | Op::Slice { .. } | Op::Pad { .. } => operand == 0,
        _ => rank > 2,
    }
}

/// Number of elements to transpose between layouts; none with one channel or one position.
fn turned(ty: &TensorType) -> u64 {
    let one = |dims: &[Dim]| dims.iter().all(|d| d.is(1));
    match ty.shape.as_slice() {
        [_, channels, positions @ ..] if !channels.is(1) && !one(positions) => estimate(ty).unsigned_abs(),
        _ => 0,
    }
}

fn picoseconds(nanoseconds: f64) -> u64 {
    // More than any layer takes, and less than the cost that is never paid.
    (nanoseconds * 1e3).clamp(0.0, (FORBIDDEN >> 12) as f64) as u64
}
