//! Square blocks of lanes, transposed in registers.

use super::super::kir::{Builder, Val};

/// Lane `i` of vector `j` becomes lane `j` of vector `i`: as many vectors as each has lanes, a power of two.
pub(super) fn turn(k: &mut Builder, mut vectors: Vec<Val>) -> Vec<Val> {
    let lanes = vectors.len() as u8;
    let mut distance = 1;
    // Swaps the off-diagonal quarters of ever larger blocks.
    while distance < lanes {
        let near: Vec<u8> = (0..lanes).map(|l| if l & distance == 0 { l } else { lanes + l - distance }).collect();
        let far: Vec<u8> = (0..lanes).map(|l| if l & distance == 0 { l + distance } else { lanes + l }).collect();
        for i in (0..lanes).filter(|i| i & distance == 0) {
            let (a, b) = (vectors[i as usize], vectors[(i + distance) as usize]);
            vectors[i as usize] = k.shuffle(a, b, &near);
            vectors[(i + distance) as usize] = k.shuffle(a, b, &far);
        }
        distance *= 2;
    }
    vectors
}
