//! `ai.onnx.ml`: scalers, linear models, decision trees.

use std::collections::HashMap;

use super::super::builder::Builder;
use super::super::node::{Node, Results};
use super::super::tensor;
use mcc_ir::{
    BinaryOp, DType, Dim, Error, Op, ReduceKind, Result, Tensor, TreeEdge, TreeEnsemble, TreeNode, UnaryOp, Value,
};

/// A list of numbers as a constant vector.
fn vector(b: &mut Builder, numbers: &[f32], dtype: DType) -> Result<Value> {
    let numbers: Vec<f64> = numbers.iter().map(|&v| f64::from(v)).collect();
    Ok(b.constant(Tensor::from_f64s(dtype, vec![numbers.len()], &numbers)?))
}

/// The features; integers are converted to `f32`.
fn features(b: &mut Builder, n: &Node) -> Result<Value> {
    let x = n.input(0)?;
    let x = if b.dtype(x).is_float() { x } else { b.cast(x, DType::F32)? };
    match b.extents_from(x, 1, "input X")?.as_slice() {
        [columns] => {
            let shape = vec![Dim::ONE, columns.clone()];
            b.reshape(x, shape)
        }
        _ => Ok(x),
    }
}

/// `(x - offset) * scale`.
pub fn scaler(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = features(b, n)?;
    let x = b.cast(x, DType::F32)?;
    let (offset, scale) = (vector(b, &n.floats("offset")?, DType::F32)?, vector(b, &n.floats("scale")?, DType::F32)?);
    let centred = b.minus(x, offset)?;
    Ok(b.times(centred, scale)?.into())
}

pub fn normalizer(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = features(b, n)?;
    let x = b.cast(x, DType::F32)?;
    let axis = b.rank(x) - 1;
    let norm = match n.text("norm", "MAX")?.as_str() {
        "MAX" => b.reduce(ReduceKind::Max, x, &[axis], true)?,
        "L1" => super::conv::lp_norm(b, x, 1, &[axis])?,
        _ => super::conv::lp_norm(b, x, 2, &[axis])?,
    };
    let empty = b.with(BinaryOp::Equal, norm, 0.0)?;
    let one = b.scalar(DType::F32, 1.0);
    let norm = b.select(empty, one, norm)?;
    Ok(b.over(x, norm)?.into())
}

pub fn binarizer(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let above = b.with(BinaryOp::Greater, x, n.float("threshold", 0.0)?)?;
    let dtype = b.dtype(x);
    Ok(b.cast(above, dtype)?.into())
}

/// Replaces a value, or NaN, by a constant per column.
pub fn imputer(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let (by, replaced) = if b.dtype(x).is_float() {
        let replaced = n.float("replaced_value_float", 0.0)?;
        (vector(b, &n.floats("imputed_value_floats")?, DType::F32)?, replaced)
    } else {
        let by = n.ints("imputed_value_int64s")?.unwrap_or_default();
        let by = b.constant(Tensor::from_i64s(DType::I64, vec![by.len()], &by)?);
        (by, n.int("replaced_value_int64", 0)? as f64)
    };
    let missing = if replaced.is_nan() { b.unary(UnaryOp::IsNan, x)? } else { b.with(BinaryOp::Equal, x, replaced)? };
    Ok(b.select(missing, by, x)?.into())
}

pub fn array_feature_extractor(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, at) = (n.input(0)?, n.input(1)?);
    let numel = b.ty(at).numel();
    let at = b.reshape(at, vec![numel])?;
    let axis = b.rank(x).checked_sub(1).ok_or_else(|| Error::invalid("features of a scalar"))?;
    let y = b.gather(x, at, axis)?;
    Ok(if axis == 0 { b.unsqueeze(y, &[0])? } else { y }.into())
}

/// A table of keys and values; the first equal key wins.
pub fn label_encoder(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let list = |b: &mut Builder, name: &str| -> Result<Option<Tensor>> {
        if let Some(proto) = n.tensor(&format!("{name}_tensor"))? {
            return tensor::tensor(&proto, &mut b.external).map(Some);
        }
        if let Some(ints) = n.ints(&format!("{name}_int64s"))? {
            return Tensor::from_i64s(DType::I64, vec![ints.len()], &ints).map(Some);
        }
        let floats: Vec<f64> = n.floats(&format!("{name}_floats"))?.into_iter().map(f64::from).collect();
        match floats.is_empty() {
            true => Ok(None),
            false => Tensor::from_f64s(DType::F32, vec![floats.len()], &floats).map(Some),
        }
    };
    let (Some(keys), Some(values)) = (list(b, "keys")?, list(b, "values")?) else {
        return Err(Error::unsupported("labels that are text"));
    };
    let default = match n.tensor("default_tensor")? {
        Some(proto) => tensor::tensor(&proto, &mut b.external)?.reshaped(Vec::new())?,
        None if values.dtype().is_float() => Tensor::scalar_f64(values.dtype(), n.float("default_float", -0.0)?),
        None => Tensor::scalar_i64(values.dtype(), n.int("default_int64", -1)?),
    };
    let mut y = b.constant(default);
    let shape = b.shape(x);
    y = b.broadcast(y, shape)?;
    for i in (0..keys.numel().min(values.numel())).rev() {
        let key = keys.f64_at(i);
        let hit = if key.is_nan() { b.unary(UnaryOp::IsNan, x)? } else { b.with(BinaryOp::Equal, x, key)? };
        let value = b.scalar(values.dtype(), values.f64_at(i));
        y = b.select(hit, value, y)?;
    }
    Ok(y.into())
}

/// `x * coefficients + intercepts`, one row of coefficients per target.
fn linear(b: &mut Builder, n: &Node, targets: i64) -> Result<Value> {
    let x = features(b, n)?;
    let x = b.cast(x, DType::F32)?;
    let coefficients = n.floats("coefficients")?;
    let width = coefficients.len() as i64 / targets.max(1);
    let w = vector(b, &coefficients, DType::F32)?;
    let w = b.reshape(w, vec![Dim::from(targets), Dim::from(width)])?;
    let w = b.transpose(w, &[1, 0])?;
    let y = b.matmul(x, w)?;
    match n.floats("intercepts")? {
        i if i.is_empty() => Ok(y),
        i => {
            let i = vector(b, &i, DType::F32)?;
            b.plus(y, i)
        }
    }
}

pub fn linear_regressor(b: &mut Builder, n: &Node) -> Result<Results> {
    let y = linear(b, n, n.int("targets", 1)?)?;
    Ok(post_transform(b, y, &n.text("post_transform", "NONE")?)?.into())
}

pub fn linear_classifier(b: &mut Builder, n: &Node) -> Result<Results> {
    let labels = int_labels(n, "classlabels_ints")?;
    let rows = n.floats("intercepts")?.len().max(1) as i64;
    let scores = linear(b, n, rows)?;
    let transform = n.text("post_transform", "NONE")?;
    if rows == 1 && labels.len() == 2 {
        let one = b.scalar(DType::F32, 1.0);
        let (first, second, threshold) = if transform == "LOGISTIC" {
            let p = b.unary(UnaryOp::Sigmoid, scores)?;
            (b.minus(one, p)?, p, 0.5)
        } else {
            (b.unary(UnaryOp::Neg, scores)?, scores, 0.0)
        };
        let positive = b.with(BinaryOp::Greater, second, threshold)?;
        let positive = b.squeeze(positive, &[1])?;
        let label = binary_label(b, positive, &labels)?;
        let scores = b.concat(&[first, second], 1)?;
        return Ok([label, scores].into());
    }
    let label = best_label(b, scores, &labels)?;
    Ok([label, post_transform(b, scores, &transform)?].into())
}

fn int_labels(n: &Node, name: &str) -> Result<Vec<i64>> {
    match n.ints(name)? {
        Some(labels) if !labels.is_empty() => Ok(labels),
        _ => Err(Error::unsupported("class labels that are text")),
    }
}

fn binary_label(b: &mut Builder, positive: Value, labels: &[i64]) -> Result<Value> {
    let (no, yes) = (Tensor::scalar_i64(DType::I64, labels[0]), Tensor::scalar_i64(DType::I64, labels[1]));
    let (no, yes) = (b.constant(no), b.constant(yes));
    b.select(positive, yes, no)
}

/// The label with the highest score, the first of several.
fn best_label(b: &mut Builder, scores: Value, labels: &[i64]) -> Result<Value> {
    let at = b.add(Op::ArgReduce { largest: true, axis: 1, keep: false, last: false }, &[scores])?;
    if labels.iter().enumerate().all(|(i, &l)| i as i64 == l) {
        return Ok(at);
    }
    let table = b.constant(Tensor::from_i64s(DType::I64, vec![labels.len()], labels)?);
    b.gather(table, at, 0)
}

fn post_transform(b: &mut Builder, y: Value, name: &str) -> Result<Value> {
    match name {
        "NONE" => Ok(y),
        "LOGISTIC" => b.unary(UnaryOp::Sigmoid, y),
        "SOFTMAX" => {
            let axis = b.rank(y) - 1;
            b.add(Op::Softmax { axis, log: false }, &[y])
        }
        "SOFTMAX_ZERO" => {
            // Zeros stay zeros and do not count in sums.
            let axis = b.rank(y) - 1;
            let zero = b.with(BinaryOp::Equal, y, 0.0)?;
            let (low, nothing) = (b.scalar_like(y, f64::NEG_INFINITY), b.scalar_like(y, 0.0));
            let masked = b.select(zero, low, y)?;
            let p = b.add(Op::Softmax { axis, log: false }, &[masked])?;
            b.select(zero, nothing, p)
        }
        other => Err(Error::unsupported(format!("post_transform \"{other}\""))),
    }
}

/// The comparison for a mode, and whether it swaps the branches.
fn test(mode: &str) -> Result<(BinaryOp, bool)> {
    Ok(match mode {
        "BRANCH_LEQ" => (BinaryOp::LessOrEqual, false),
        "BRANCH_LT" => (BinaryOp::Less, false),
        "BRANCH_GTE" => (BinaryOp::GreaterOrEqual, false),
        "BRANCH_GT" => (BinaryOp::Greater, false),
        "BRANCH_EQ" => (BinaryOp::Equal, false),
        "BRANCH_NEQ" => (BinaryOp::Equal, true),
        other => return Err(Error::unsupported(format!("node mode \"{other}\""))),
    })
}

/// Maximum number of features: a row of them must fit scratch memory.
const MAX_FEATURE: u32 = 1 << 24;

/// The target of a vote.
fn target(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::invalid(format!("a leaf votes for target {number}")))
}

fn decision(
    feature: i64,
    mode: &str,
    value: f64,
    missing_is_true: bool,
    yes: TreeEdge,
    no: TreeEdge,
) -> Result<TreeNode> {
    let (test, swapped) = test(mode)?;
    let feature = u32::try_from(feature).ok().filter(|&f| f < MAX_FEATURE);
    let feature = feature.ok_or_else(|| Error::invalid("a node tests a feature that no row has"))?;
    // NaN is unequal to everything, so it takes the swapped "no" branch without a flag.
    let (yes, no, missing_is_true) = if swapped { (no, yes, false) } else { (yes, no, missing_is_true) };
    Ok(TreeNode { feature, test, value: value.into(), missing_is_true, yes, no })
}

fn at<T: Copy>(list: &[T], i: usize, name: &str) -> Result<T> {
    list.get(i).copied().ok_or_else(|| Error::invalid(format!("attribute {name} has {} elements", list.len())))
}

fn aggregate(name: &str) -> Result<ReduceKind> {
    Ok(match name {
        "SUM" => ReduceKind::Sum,
        "AVERAGE" => ReduceKind::Mean,
        "MIN" => ReduceKind::Min,
        "MAX" => ReduceKind::Max,
        other => return Err(Error::invalid(format!("attribute aggregate_function is \"{other}\""))),
    })
}

/// The operator since version 5, with nodes and leaves in separate arrays.
pub fn tree_ensemble(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = features(b, n)?;
    let list = |name: &str| Ok::<_, Error>(n.ints(name)?.unwrap_or_default());
    let numbers = |b: &mut Builder, name: &str| -> Result<Vec<f64>> {
        let proto = n.tensor(name)?;
        Ok(match proto {
            Some(p) => tensor::tensor(&p, &mut b.external)?.to_f64s(),
            None => Vec::new(),
        })
    };
    let (features, yes, no) = (list("nodes_featureids")?, list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (list("nodes_trueleafs")?, list("nodes_falseleafs")?);
    let missing = list("nodes_missing_value_tracks_true")?;
    let (modes, splits) = (numbers(b, "nodes_modes")?, numbers(b, "nodes_splits")?);
    let (targets, weights) = (list("leaf_targetids")?, numbers(b, "leaf_weights")?);
    let members = numbers(b, "membership_values")?;
    let mut members = members.split(|v| v.is_nan());
    let edge = |leaf: i64, to: i64| -> Result<TreeEdge> {
        let to = u32::try_from(to).map_err(|_| Error::invalid(format!("node {to}")))?;
        Ok(if leaf != 0 { TreeEdge::Leaf(to, 1) } else { TreeEdge::Node(to) })
    };
    const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
    let mut nodes = Vec::new();
    let mut chained = Vec::new();
    for i in 0..features.len() {
        let (yes, no) = (
            edge(at(&yes_leaf, i, "nodes_trueleafs")?, at(&yes, i, "nodes_truenodeids")?)?,
            edge(at(&no_leaf, i, "nodes_falseleafs")?, at(&no, i, "nodes_falsenodeids")?)?,
        );
        let missing = missing.get(i).is_some_and(|&m| m != 0);
        let mode = at(&modes, i, "nodes_modes")? as usize;
        if mode == 6 {
            // A test for membership in a set becomes one comparison per member; all but the first go after all other
            // nodes.
            let set =
                members.next().filter(|s| !s.is_empty()).ok_or_else(|| Error::invalid("an empty set of members"))?;
            let mut next = no;
            for (k, &v) in set.iter().enumerate().rev() {
                let node = decision(features[i], "BRANCH_EQ", v, missing, yes, next)?;
                if k == 0 {
                    nodes.push(node);
                } else {
                    chained.push(node);
                    next = TreeEdge::Node((features.len() + chained.len() - 1) as u32);
                }
            }
            continue;
        }
        let mode = MODES.get(mode).ok_or_else(|| Error::invalid(format!("node mode {mode}")))?;
        nodes.push(decision(features[i], mode, at(&splits, i, "nodes_splits")?, missing, yes, no)?);
    }
    nodes.extend(chained);
    let roots = list("tree_roots")?.iter().map(|&r| u32::try_from(r).unwrap_or(u32::MAX)).collect();
    let votes = targets.iter().zip(&weights).map(|(&t, &w)| Ok((target(t)?, w.into()))).collect::<Result<_>>()?;
    let aggregate = aggregate(at(
        &["AVERAGE", "SUM", "MIN", "MAX"],
        n.int("aggregate_function", 1)? as usize,
        "aggregate_function",
    )?)?;
    let targets = usize::try_from(n.int("n_targets", 1)?).unwrap_or(1);
    let transform = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];
    let transform = at(&transform, n.int("post_transform", 0)? as usize, "post_transform")?;
    let ensemble = checked(TreeEnsemble { roots, nodes, votes, aggregate, targets })?;
    let y = b.add(Op::TreeEnsemble(Box::new(ensemble)), &[x])?;
    Ok(post_transform(b, y, transform)?.into())
}

/// Checks that every edge has a target node, and every vote a target.
fn checked(e: TreeEnsemble) -> Result<TreeEnsemble> {
    let (nodes, votes) = (e.nodes.len() as u64, e.votes.len() as u64);
    let leads = |edge: &TreeEdge| match *edge {
        TreeEdge::Node(i) => u64::from(i) < nodes,
        TreeEdge::Leaf(first, count) => u64::from(first) + u64::from(count) <= votes,
    };
    let sound = e.nodes.iter().all(|n| leads(&n.yes) && leads(&n.no))
        && e.roots.iter().all(|&r| u64::from(r) < nodes)
        && e.votes.iter().all(|v| (v.0 as usize) < e.targets);
    if sound { Ok(e) } else { Err(Error::invalid("a tree's edge or vote has no target")) }
}

/// The older operators: one list of nodes, including leaves, and votes by tree and node.
fn listed_trees(b: &mut Builder, n: &Node, prefix: &str, kind: ReduceKind, targets: usize) -> Result<TreeEnsemble> {
    let list = |name: &str| Ok::<_, Error>(n.ints(name)?.unwrap_or_default());
    let numbers = |b: &mut Builder, name: &str| -> Result<Vec<f64>> {
        if let Some(proto) = n.tensor(&format!("{name}_as_tensor"))? {
            return Ok(tensor::tensor(&proto, &mut b.external)?.to_f64s());
        }
        Ok(n.floats(name)?.into_iter().map(f64::from).collect())
    };
    let (trees, ids) = (list("nodes_treeids")?, list("nodes_nodeids")?);
    let (features, modes) = (list("nodes_featureids")?, n.texts("nodes_modes")?);
    let (yes, no) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
    let missing = list("nodes_missing_value_tracks_true")?;
    let values = numbers(b, "nodes_values")?;
    let (vote_trees, vote_nodes) = (list(&format!("{prefix}_treeids"))?, list(&format!("{prefix}_nodeids"))?);
    let (vote_targets, weights) = (list(&format!("{prefix}_ids"))?, numbers(b, &format!("{prefix}_weights"))?);
    let mut leaf_votes: HashMap<(i64, i64), Vec<(u32, f64)>> = HashMap::new();
    for i in 0..vote_targets.len() {
        let key = (at(&vote_trees, i, "treeids")?, at(&vote_nodes, i, "nodeids")?);
        leaf_votes.entry(key).or_default().push((target(vote_targets[i])?, at(&weights, i, "weights")?));
    }
    let is_leaf = |i: usize| modes.get(i).is_none_or(|m| m == "LEAF");
    let mut edges = HashMap::new();
    let (mut votes, mut count) = (Vec::new(), 0u32);
    for i in 0..ids.len() {
        let key = (at(&trees, i, "nodes_treeids")?, ids[i]);
        let edge = if is_leaf(i) {
            let mine = leaf_votes.get(&key).map_or(&[][..], Vec::as_slice);
            let first = votes.len() as u32;
            votes.extend(mine.iter().map(|&(t, w)| (t, w.into())));
            TreeEdge::Leaf(first, mine.len() as u32)
        } else {
            count += 1;
            TreeEdge::Node(count - 1)
        };
        edges.insert(key, edge);
    }
    let (mut nodes, mut roots, mut seen) = (Vec::new(), Vec::new(), std::collections::HashSet::new());
    let mut single = Vec::new();
    for i in 0..ids.len() {
        let first_of_tree = seen.insert(trees[i]);
        if is_leaf(i) {
            if first_of_tree {
                single.push(edges[&(trees[i], ids[i])]);
            }
            continue;
        }
        if first_of_tree {
            roots.push(nodes.len() as u32);
        }
        let edge = |to: i64| {
            edges
                .get(&(trees[i], to))
                .copied()
                .ok_or_else(|| Error::invalid(format!("tree {} has no node {to}", trees[i])))
        };
        let missing = missing.get(i).is_some_and(|&m| m != 0);
        let (yes, no) = (edge(at(&yes, i, "nodes_truenodeids")?)?, edge(at(&no, i, "nodes_falsenodeids")?)?);
        let feature = at(&features, i, "nodes_featureids")?;
        nodes.push(decision(feature, &modes[i], at(&values, i, "nodes_values")?, missing, yes, no)?);
    }
    // A tree with a single leaf becomes a decision with that leaf on both branches.
    for leaf in single {
        roots.push(nodes.len() as u32);
        nodes.push(decision(0, "BRANCH_LEQ", 0.0, false, leaf, leaf)?);
    }
    checked(TreeEnsemble { roots, nodes, votes, aggregate: kind, targets })
}

fn with_base(b: &mut Builder, n: &Node, y: Value) -> Result<Value> {
    let base = match n.tensor("base_values_as_tensor")? {
        Some(proto) => tensor::tensor(&proto, &mut b.external)?.to_f64s(),
        None => n.floats("base_values")?.into_iter().map(f64::from).collect(),
    };
    if base.is_empty() {
        return Ok(y);
    }
    let dtype = b.dtype(y);
    let base = b.constant(Tensor::from_f64s(dtype, vec![base.len()], &base)?);
    b.plus(y, base)
}

pub fn tree_ensemble_regressor(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = features(b, n)?;
    let targets = usize::try_from(n.int("n_targets", 1)?).unwrap_or(1);
    let kind = aggregate(&n.text("aggregate_function", "SUM")?)?;
    let ensemble = listed_trees(b, n, "target", kind, targets)?;
    let y = b.add(Op::TreeEnsemble(Box::new(ensemble)), &[x])?;
    let y = with_base(b, n, y)?;
    let y = b.cast(y, DType::F32)?;
    Ok(post_transform(b, y, &n.text("post_transform", "NONE")?)?.into())
}

/// Two classes may share one score, which is a probability if no weight is negative, else a margin.
pub fn tree_ensemble_classifier(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = features(b, n)?;
    let labels = int_labels(n, "classlabels_int64s")?;
    let transform = n.text("post_transform", "NONE")?;
    let ensemble = listed_trees(b, n, "class", ReduceKind::Sum, labels.len())?;
    let shared = labels.len() == 2 && ensemble.votes.windows(2).all(|w| w[0].0 == w[1].0);
    let positive_weights = ensemble.votes.iter().all(|v| v.1.get() >= 0.0);
    if !shared {
        let y = b.add(Op::TreeEnsemble(Box::new(ensemble)), &[x])?;
        let y = with_base(b, n, y)?;
        let y = b.cast(y, DType::F32)?;
        let label = best_label(b, y, &labels)?;
        return Ok([label, post_transform(b, y, &transform)?].into());
    }
    let votes = ensemble.votes.iter().map(|v| (0, v.1)).collect();
    let y = b.add(Op::TreeEnsemble(Box::new(TreeEnsemble { votes, targets: 1, ..ensemble })), &[x])?;
    let y = with_base(b, n, y)?;
    let y = b.cast(y, DType::F32)?;
    let one = b.scalar(DType::F32, 1.0);
    let (no, yes, threshold) = match (positive_weights, transform.as_str()) {
        (true, _) => (b.minus(one, y)?, y, 0.5),
        (false, "LOGISTIC") => {
            let minus = b.unary(UnaryOp::Neg, y)?;
            (b.unary(UnaryOp::Sigmoid, minus)?, b.unary(UnaryOp::Sigmoid, y)?, 0.5)
        }
        (false, _) => (b.unary(UnaryOp::Neg, y)?, y, 0.0),
    };
    let positive = b.with(BinaryOp::Greater, yes, threshold)?;
    let positive = b.squeeze(positive, &[1])?;
    let label = binary_label(b, positive, &labels)?;
    let scores = b.concat(&[no, yes], 1)?;
    Ok([label, scores].into())
}
