//! Convolutions, products, pools, recurrences, attention, normalisations.

use super::Maker;
use mcc_ir::{
    Activation, BinaryOp, Cell, CellSpec, ConvSpec, CoordinateMode, DType, Dim, Layout, NearestMode, Op, PoolKind,
    PoolSpec, ReduceKind, ResizeRule, SampleMode, Tensor, TreeEdge, TreeEnsemble, TreeNode, UnaryOp, Value,
};

impl Maker {
    pub fn layer(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let rank = ty.rank();
        if !ty.dtype.is_float() {
            return self.integer_product(x);
        }
        let quantized = ty.dtype == DType::F32 && self.random.chance(25);
        let x = if quantized { self.through_codes(x)? } else { x };
        let y = match self.random.below(10) {
            0..=4 if matches!(rank, 3 | 4) => self.convolution(x)?,
            5 if matches!(rank, 3 | 4) => self.pool(x)?,
            6 if matches!(rank, 3 | 4) => self.resize(x)?,
            7 if rank == 3 => self.attention(x)?,
            8 if rank == 3 => self.recurrence(x)?,
            8 if rank == 2 => self.trees(x)?,
            _ => self.product(x)?,
        };
        let y = self.activated(y)?;
        if quantized || self.random.chance(5) { self.through_codes(y) } else { Some(y) }
    }

    fn activated(&mut self, y: Value) -> Option<Value> {
        let zero = self.number_like(y, 0.0);
        match self.random.below(8) {
            0..=2 => self.binary(BinaryOp::Max, y, zero),
            3 => {
                let six = self.number_like(y, 6.0);
                let y = self.binary(BinaryOp::Max, y, zero)?;
                self.binary(BinaryOp::Min, y, six)
            }
            4 => {
                let s = self.add(Op::Unary(UnaryOp::Sigmoid), &[y])?;
                self.binary(BinaryOp::Mul, y, s)
            }
            5 => self.add(Op::Unary(UnaryOp::Gelu), &[y]),
            _ => Some(y),
        }
    }

    fn spec(&mut self, axes: usize, kernel: &[i64], group: usize) -> ConvSpec {
        let same = self.random.chance(75);
        let strides: Vec<i64> = (0..axes).map(|_| self.random.pick(&[1, 1, 1, 2])).collect();
        let dilations: Vec<i64> = (0..axes).map(|_| self.random.pick(&[1, 1, 1, 1, 2])).collect();
        let pads = (0..axes)
            .map(|a| {
                let reach = dilations[a] * (kernel[a] - 1);
                if same { (reach / 2, reach - reach / 2) } else { (0, 0) }
            })
            .collect();
        ConvSpec { strides, dilations, pads, group, layout: Layout::ChannelsFirst }
    }

    fn convolution(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let (axes, channels) = (ty.rank() - 2, ty.shape[1].as_const()? as usize);
        if channels == 0 || channels > 128 {
            return None;
        }
        let square = self.random.pick(&[1, 1, 3, 3, 3, 5, 2]);
        let kernel: Vec<i64> =
            (0..axes).map(|_| if self.random.chance(85) { square } else { self.random.pick(&[1, 3, 7]) }).collect();
        let window: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
        let out = self.random.pick(&[1, 3, 4, 8, 16, 17, 24, 32, 40, 64]);
        let groups: Vec<usize> = [2, 4, 3].into_iter().filter(|g| channels % g == 0).collect();
        let kind = self.random.below(10);
        if kind == 0 {
            // Transposed: weights are `[in, out, k...]`.
            let spec = self.spec(axes, &kernel, 1);
            let w = self.weights(ty.dtype, &[&[channels, out], &window[..]].concat(), 1)?;
            return self.add(Op::ConvTranspose { spec, output_pads: vec![0; axes] }, &[x, w]);
        }
        let (group, out) = match kind {
            1..=2 => (channels, channels * self.random.pick(&[1, 1, 1, 2])),
            3 if !groups.is_empty() => {
                let group = self.random.pick(&groups);
                (group, out.next_multiple_of(group))
            }
            _ => (1, out),
        };
        let spec = self.spec(axes, &kernel, group);
        let w = self.weights(ty.dtype, &[&[out, channels / group], &window[..]].concat(), 0)?;
        let mut operands = vec![x, w];
        if self.random.chance(60) {
            let bias = self.noise(ty.dtype, vec![out], 0.5);
            operands.push(self.graph.constant(bias));
        }
        let y = self.add(Op::Conv(spec), &operands)?;
        if kind == 1 && self.random.chance(60) {
            // A depthwise convolution is often followed by a pointwise one.
            let y = self.activated(y)?;
            let w = self.weights(ty.dtype, &[&[16, out], &vec![1; axes][..]].concat(), 0)?;
            let spec = ConvSpec {
                strides: vec![1; axes],
                dilations: vec![1; axes],
                pads: vec![(0, 0); axes],
                group: 1,
                layout: Layout::ChannelsFirst,
            };
            return self.add(Op::Conv(spec), &[y, w]);
        }
        if self.random.chance(20) {
            // A batch normalisation.
            let (scale, shift) = (self.per_channel(y, 1, 1.0)?, self.per_channel(y, 1, 0.5)?);
            let y = self.binary(BinaryOp::Mul, y, scale)?;
            return self.binary(BinaryOp::Add, y, shift);
        }
        if self.random.chance(12) && ty.dtype == DType::F32 {
            // Scales channels by their means.
            let mean =
                self.add(Op::Reduce { kind: ReduceKind::Mean, axes: (2..2 + axes).collect(), keep: true }, &[y])?;
            let gate = self.add(Op::Unary(UnaryOp::Sigmoid), &[mean])?;
            return self.binary(BinaryOp::Mul, y, gate);
        }
        Some(y)
    }

    fn pool(&mut self, x: Value) -> Option<Value> {
        let axes = self.ty(x).rank() - 2;
        let k = self.random.pick(&[2, 3]);
        let kind = self.random.pick(&[
            PoolKind::Max,
            PoolKind::Max,
            PoolKind::Average { include_pad: false },
            PoolKind::Average { include_pad: true },
            PoolKind::Lp { p: 2 },
        ]);
        let strides = vec![self.random.pick(&[1, 2]); axes];
        let pads = vec![self.random.pick(&[(0, 0), (1, 1), (0, 1)]); axes];
        let (dilations, ceil) = (vec![1; axes], self.random.chance(20));
        let spec =
            PoolSpec { kind, kernel: vec![k; axes], strides, dilations, pads, ceil, layout: Layout::ChannelsFirst };
        self.add(Op::Pool(spec), &[x])
    }

    fn resize(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let factor = self.random.pick(&[2i64, 2, 3]);
        let by = |axis: usize| if axis < 2 { 1 } else { factor };
        let sizes = ty.shape.iter().enumerate().map(|(a, d)| d * &Dim::from(by(a))).collect();
        let rule = ResizeRule {
            mode: self.random.pick(&[SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic]),
            coordinates: self.random.pick(&[
                CoordinateMode::HalfPixel,
                CoordinateMode::Asymmetric,
                CoordinateMode::AlignCorners,
                CoordinateMode::PytorchHalfPixel,
            ]),
            nearest: self.random.pick(&[NearestMode::Floor, NearestMode::RoundPreferFloor, NearestMode::Ceil]),
            scales: (0..ty.rank()).map(|a| (by(a) as f64).into()).collect(),
            cubic_a: (-0.75).into(),
            exclude_outside: self.random.chance(30),
            antialias: false,
            extrapolation: 0.0.into(),
            roi: Vec::new(),
        };
        self.add(Op::Resize { sizes, rule }, &[x])
    }

    fn product(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let rank = ty.rank();
        if rank < 2 {
            return None;
        }
        if self.random.chance(15) && rank >= 3 {
            // A product of two activations.
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(rank - 1, rank - 2);
            let turned = self.add(Op::Transpose { perm }, &[x])?;
            let y = self.add(Op::MatMul, &[x, turned])?;
            return self.add(Op::Unary(UnaryOp::Tanh), &[y]);
        }
        let k = ty.shape[rank - 1].as_const().filter(|k| (1..=160).contains(k))? as usize;
        let n = self.random.pick(&[1, 2, 5, 8, 16, 17, 31, 32, 48, 64]);
        let w = self.weights(ty.dtype, &[k, n], 1)?;
        let y = self.add(Op::MatMul, &[x, w])?;
        if self.random.chance(50) {
            let bias = self.noise(ty.dtype, vec![n], 0.5);
            let bias = self.graph.constant(bias);
            return self.binary(BinaryOp::Add, y, bias);
        }
        Some(y)
    }

    /// Products of integers.
    fn integer_product(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let k = ty.shape.last()?.as_const().filter(|k| (1..=64).contains(k))? as usize;
        if !matches!(ty.dtype, DType::I8 | DType::U8 | DType::I32 | DType::I64) || ty.rank() < 2 {
            return None;
        }
        let wide = self.cast(x, DType::I32)?;
        let n = self.random.pick(&[3, 8, 16, 20]);
        let values: Vec<i64> = (0..k * n).map(|_| self.random.within(-128, 127)).collect();
        let w = self.graph.constant(Tensor::from_i64s(DType::I8, vec![k, n], &values).ok()?);
        let w = self.cast(w, DType::I32)?;
        self.add(Op::MatMul, &[wide, w])
    }

    /// Attention with heads of queries, keys and values, as models express it.
    fn attention(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let d = ty.shape[2].as_const().filter(|d| (1..=64).contains(d))? as usize;
        let (heads, each) = (self.random.pick(&[1, 2, 3]), self.random.pick(&[4, 8, 5, 16]));
        let wide = heads * each;
        let split = vec![ty.shape[0].clone(), ty.shape[1].clone(), Dim::from(heads), Dim::from(each)];
        let mut projected = Vec::new();
        for part in 0..3 {
            let w = self.weights(ty.dtype, &[d, wide], 1)?;
            let y = self.add(Op::MatMul, &[x, w])?;
            let y = self.add(Op::Reshape { shape: split.clone() }, &[y])?;
            let perm = if part == 1 { vec![0, 2, 3, 1] } else { vec![0, 2, 1, 3] };
            projected.push(self.add(Op::Transpose { perm }, &[y])?);
        }
        let scores = self.add(Op::MatMul, &[projected[0], projected[1]])?;
        let scale = self.number_like(scores, 1.0 / (each as f64).sqrt());
        let scores = self.binary(BinaryOp::Mul, scores, scale)?;
        let shares = self.add(Op::Softmax { axis: 3, log: false }, &[scores])?;
        let y = self.add(Op::MatMul, &[shares, projected[2]])?;
        let y = self.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[y])?;
        let joined = vec![ty.shape[0].clone(), ty.shape[1].clone(), Dim::from(wide)];
        self.add(Op::Reshape { shape: joined }, &[y])
    }

    fn recurrence(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let features = ty.shape[2].as_const().filter(|k| (1..=64).contains(k))? as usize;
        if ty.dtype != DType::F32 {
            return None;
        }
        let cell = self.random.pick(&[
            Cell::Rnn,
            Cell::Gru { linear_before_reset: false },
            Cell::Gru { linear_before_reset: true },
            Cell::Lstm,
        ]);
        let hidden = self.random.pick(&[1, 4, 7, 16]);
        let wide = cell.gates() * hidden;
        let w = self.weights(ty.dtype, &[features, wide], 1)?;
        let xw = self.add(Op::MatMul, &[x, w])?;
        let r = self.noise(ty.dtype, vec![hidden, wide], 0.4);
        let r = self.graph.constant(r);
        let zero = self.graph.constant(Tensor::scalar_f64(ty.dtype, 0.1));
        let state = self.add(Op::Broadcast { shape: vec![ty.shape[1].clone(), Dim::from(hidden)] }, &[zero])?;
        let mut operands = vec![xw, r, state];
        match cell {
            Cell::Lstm => operands.push(state),
            Cell::Gru { linear_before_reset: true } => {
                let bias = self.noise(ty.dtype, vec![hidden], 0.3);
                operands.push(self.graph.constant(bias));
            }
            _ => {}
        }
        let activations = match cell {
            Cell::Rnn => [Activation::Tanh; 3],
            _ => [Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        };
        let spec = CellSpec {
            cell,
            reverse: self.random.chance(30),
            activations,
            clip: None,
            peephole: false,
            coupled: false,
            lengths: false,
            quantized: false,
            coded: None,
        };
        self.add(Op::Recurrent(spec), &operands)
    }

    fn trees(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let features = ty.shape[1].as_const().filter(|&f| f > 0)? as u32;
        if ty.dtype != DType::F32 {
            return None;
        }
        let (mut nodes, mut roots, mut votes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.random.within(1, 4) {
            roots.push(nodes.len() as u32);
            let depth = self.random.within(1, 3) as u32;
            let first = nodes.len() as u32;
            // A complete binary tree, row by row.
            for n in 0..(1u32 << depth) - 1 {
                let mut edge = |child: u32| {
                    if child < (1 << depth) - 1 {
                        return TreeEdge::Node(first + child);
                    }
                    votes.push((self.random.below(2) as u32, self.random.real().into()));
                    TreeEdge::Leaf(votes.len() as u32 - 1, 1)
                };
                let (yes, no) = (edge(2 * n + 1), edge(2 * n + 2));
                nodes.push(TreeNode {
                    feature: self.random.below(features as usize) as u32,
                    test: self.random.pick(&[BinaryOp::LessOrEqual, BinaryOp::Less, BinaryOp::Greater]),
                    value: f64::from(self.random.real() as f32).into(),
                    missing_is_true: false,
                    yes,
                    no,
                });
            }
        }
        let trees = TreeEnsemble { roots, nodes, votes, aggregate: ReduceKind::Sum, targets: 2 };
        self.add(Op::TreeEnsemble(Box::new(trees)), &[x])
    }
}
