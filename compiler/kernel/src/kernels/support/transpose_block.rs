//! Transposes of square blocks of lanes in registers.

use crate::kir::{Builder, Val};

/// Lane `i` of vector `j` becomes lane `j` of vector `i`; the number of vectors equals their lanes, a power of two up
/// to 16.
pub(crate) fn transpose(k: &mut Builder, vectors: Vec<Val>) -> Vec<Val> {
    let lanes = vectors.len();
    if lanes < 4 {
        return turn_pairs(k, vectors);
    }
    // 4x4 blocks within pieces of 128 bits: vector `4 * g + c` then holds, in piece `p`, column `4 * p + c` of the rows
    // from `4 * g` on.
    let mut blocks = Vec::with_capacity(lanes);
    for rows in vectors.chunks_exact(4) {
        let low = pieces(lanes, |p, w| if w % 2 == 0 { p + w / 2 } else { lanes + p + w / 2 });
        let high: Vec<u8> = low.iter().map(|l| l + 2).collect();
        let [a, b, c, d] =
            [(0, &low), (0, &high), (2, &low), (2, &high)].map(|(n, p)| k.shuffle(rows[n], rows[n + 1], p));
        let near = pieces(lanes, |p, w| if w < 2 { p + w } else { lanes + p + w - 2 });
        let far: Vec<u8> = near.iter().map(|l| l + 2).collect();
        blocks.extend([(a, c, &near), (a, c, &far), (b, d, &near), (b, d, &far)].map(|(x, y, p)| k.shuffle(x, y, p)));
    }
    // For each column, the pieces are a matrix to transpose: split into even and odd ones, recursively.
    let groups = lanes / 4;
    let mut result = blocks.clone();
    for c in 0..4 {
        let column: Vec<Val> = (0..groups).map(|g| blocks[4 * g + c]).collect();
        for (p, v) in turn_pieces(k, column).into_iter().enumerate() {
            result[4 * p + c] = v;
        }
    }
    result
}

/// Piece `i` of vector `j` becomes piece `j` of vector `i`: one, two or four vectors of as many pieces.
fn turn_pieces(k: &mut Builder, vectors: Vec<Val>) -> Vec<Val> {
    let count = vectors.len();
    let lanes = 4 * count;
    let take = |k: &mut Builder, a: Val, b: Val, odd: usize| {
        // Alternate pieces of the first and of the second.
        let half = count / 2;
        let from = |p: usize| if p < half { 2 * p + odd } else { count + 2 * (p - half) + odd };
        let pattern: Vec<u8> = (0..lanes).map(|l| (4 * from(l / 4) + l % 4) as u8).collect();
        k.shuffle(a, b, &pattern)
    };
    match *vectors.as_slice() {
        [a, b] => vec![take(k, a, b, 0), take(k, a, b, 1)],
        [a, b, c, d] => {
            let [even, odd] = [0, 1].map(|odd| (take(k, a, b, odd), take(k, c, d, odd)));
            vec![
                take(k, even.0, even.1, 0),
                take(k, odd.0, odd.1, 0),
                take(k, even.0, even.1, 1),
                take(k, odd.0, odd.1, 1),
            ]
        }
        _ => vectors,
    }
}

/// The lane index for every word of every piece of four.
fn pieces(lanes: usize, of: impl Fn(usize, usize) -> usize) -> Vec<u8> {
    (0..lanes).map(|l| of(l / 4 * 4, l % 4) as u8).collect()
}

fn turn_pairs(k: &mut Builder, vectors: Vec<Val>) -> Vec<Val> {
    match *vectors.as_slice() {
        [a, b] => vec![k.shuffle(a, b, &[0, 2]), k.shuffle(a, b, &[1, 3])],
        _ => vectors,
    }
}
