//! Contractions with coded weights in `f32`: the weights of a group of columns are decoded to scratch memory, and the
//! [usual loops](crate::kernels::gemm) multiply all rows of a block by them.

use mcc_targets::{Config, schedule};

use super::Weights;
use crate::kernels::gemm::packed::windows;
use crate::kernels::gemm::{Contraction, Extents, Job, Panels, Rows, Tap};
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Val};
use mcc_ir::{DType, Dim, Packed};

pub(crate) fn product(request: &KernelRequest<'_>, w: &Weights<'_, '_>, k: &mut Builder, p: &Packed, rows: &Dim) {
    let (x, axes) = (&request.operands[0], p.kernel.len());
    let size = Dim::from(4i64);
    // Bytes between neighbours along each axis of `x`.
    let mut steps = vec![size; x.rank()];
    for axis in (0..x.rank() - 1).rev() {
        steps[axis] = &steps[axis + 1] * &x.shape[axis + 1];
    }
    let spread = request.config.target.vector_bytes == 16;
    // 128-bit tiles are at most two vectors wide.
    let panel = if spread { w.panel.min(2 * w.lanes) } else { w.panel };
    let width = if spread { w.panel } else { w.panel.max(schedule::lowbit::MIN_GROUP_COLUMNS) };
    let row_bytes = Dim::from(4 * w.depth);
    let extents = Extents { rows, columns: &Dim::from(i64::from(width)), depth: &Dim::from(w.depth) };
    let counted = Dim::from((4 * w.depth).min(schedule::lowbit::MAX_COUNTED_ROW_BYTES));
    // Threads that share rows each decode all weights: if the rows are few, they share groups of columns instead.
    let by_rows = schedule::threads::shared_rows(1, rows.as_const(), Some(w.columns), width).is_some();
    let alone = Config { threads: 1, ..request.config.clone() };
    let request = &KernelRequest { config: if by_rows { request.config } else { &alone }, ..*request };
    let mut contraction = Contraction::new(request, w.e, Panels::Packed(panel), extents, &counted);
    contraction.right = DType::F32;
    let joined = axes > 0 && p.spec.joins_last();
    contraction.taps = (0..axes - usize::from(joined))
        .filter(|&i| p.kernel[i] != 1)
        .map(|i| Tap { count: Dim::from(p.kernel[i]), bytes: &steps[i + 1] * &Dim::from(p.spec.dilations[i]) })
        .collect();
    contraction.run = Dim::from(w.depth / contraction.taps.iter().filter_map(|t| t.count.as_const()).product::<i64>());
    let point = p.kernel.iter().all(|&k| k == 1) && p.spec.strides.iter().all(|&s| s == 1);
    let table = (!point).then(|| windows(w.e, k, &p.spec, &steps, &request.results[0].shape[..=axes]));
    let scratch = w.e.scratch(k, Dim::from(4 * w.depth * i64::from(width)));
    contraction.blocks(k, |k, first, last| {
        w.each_group(k, width / w.lanes, |k, columns| {
            decode(w, k, &columns, scratch, panel);
            let rows_at = match table {
                Some(table) => Rows::Table { base: w.e.operand(0), table },
                None => Rows::Affine { base: w.e.operand(0), bytes: row_bytes.clone() },
            };
            let zero = k.int(0);
            let job = Job {
                rows: rows_at,
                count: rows.clone(),
                columns: Dim::from(i64::from(columns.count)),
                right: scratch,
                out: (zero, columns.first),
                sink: None,
                adds: false,
            };
            contraction.columns(k, &job, first, last);
        });
    });
}

/// Decodes the weights of some columns to memory, in panels of `panel` columns.
fn decode(w: &Weights<'_, '_>, k: &mut Builder, columns: &super::Columns, to: Val, panel: u32) {
    let row = 4 * i64::from(panel);
    w.each_element(k, columns, row, &[], |k, at, n, weights, _| {
        for (v, &weights) in (0u32..).zip(weights) {
            let column = v * w.lanes;
            let offset = i64::from(column / panel) * w.depth * row + i64::from(column % panel) * 4 + n * row;
            let start = k.bin(Bin::Add, to, at);
            let to = k.at(start, offset as i32);
            k.store(to, weights);
        }
        Vec::new()
    });
}
