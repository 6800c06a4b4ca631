//! Schedules of contractions: register tiles and block sizes, as data and pure functions of type, shape and target.
//!
//! A register tile is `rows` rows by `vectors` vectors of columns. The rows below come from measuring the inner loop
//! that the emitter makes: larger tiles spill on x86-64, whose multiply-add overwrites one of its factors.

use crate::{Arch, Target};

/// A register tile of a contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows held in registers at once.
    pub rows: u32,
    /// Vectors of columns held in registers at once.
    pub vectors: u32,
    /// Steps of the contraction in one round of the inner loop.
    pub unroll: u32,
}

/// One row a family and panel width.
const TILES: &[(Arch, Tile)] = &[
    (Arch::X86_64, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::X86_64, Tile { rows: 5, vectors: 2, unroll: 4 }),
    (Arch::X86_64, Tile { rows: 3, vectors: 3, unroll: 4 }),
    // Of 128 bits each: two registers of 256, where the target is `wide`.
    (Arch::X86_64, Tile { rows: 6, vectors: 4, unroll: 4 }),
    (Arch::Aarch64, Tile { rows: 8, vectors: 1, unroll: 4 }),
    (Arch::Aarch64, Tile { rows: 8, vectors: 2, unroll: 4 }),
    (Arch::Aarch64, Tile { rows: 7, vectors: 3, unroll: 4 }),
];

/// Bytes of left-hand rows that should stay in the second-level cache while the panels pass.
const ROW_BLOCK_BYTES: u64 = 256 << 10;

/// Bytes of transformed input that a block of a minimal-filtering convolution may take.
pub const WINOGRAD_BLOCK_BYTES: i64 = 384 << 10;

/// Whether a 3x3 convolution with unit strides over an image of `pixels` results gains from minimal filtering: its
/// weights take 16/9 of the memory, and its transforms must be a small part of the work.
pub fn winograd(pixels: u64, channels: u64, out: u64) -> bool {
    pixels >= 144 && channels >= 16 && out >= 16 && channels.is_multiple_of(4) && out.is_multiple_of(4)
}

/// The register tile for panels of `vectors` vectors.
pub fn tile(target: &Target, vectors: u32) -> Tile {
    let of_arch = |t: &&(Arch, Tile)| t.0 == target.arch && t.1.vectors == vectors;
    TILES.iter().find(of_arch).map_or(Tile { rows: 1, vectors, unroll: 1 }, |t| t.1)
}

/// Whether contractions of `f32` have an inner loop on registers of 256 bits, four vectors of columns wide.
pub fn wide(target: &Target) -> bool {
    let _ = target;
    false
}

/// Vectors in a panel of weights with `columns` columns in all (`None`: known at run time), `lanes` in a vector;
/// `wide` where the element type and the target have the wide inner loop.
pub fn panel_vectors(columns: Option<u64>, lanes: u64, wide: bool) -> u32 {
    if wide && columns.is_none_or(|c| c > 3 * lanes) {
        return 4;
    }
    let Some(columns) = columns else { return 2 };
    let filled = |vectors: u64| columns.div_ceil(vectors * lanes) * vectors;
    // Three vectors only where they leave fewer empty columns: the tile of two is the faster one.
    match columns.div_ceil(lanes) {
        0 | 1 => 1,
        n if n <= 6 && filled(3) < filled(2) => 3,
        _ => 2,
    }
}

/// Rows to pass over all panels before the next rows come; a multiple of the tile's rows.
pub fn row_block(tile: Tile, bytes_a_row: u64) -> u64 {
    let rows = u64::from(tile.rows);
    (ROW_BLOCK_BYTES / bytes_a_row.max(1) / rows).max(8) * rows
}

/// Columns of output computed at once by a depthwise convolution whose rows have `width` columns.
pub fn depthwise_columns(target: &Target, width: Option<u64>) -> u64 {
    let most = match target.arch {
        Arch::X86_64 => 8,
        Arch::Aarch64 => 10,
    };
    let Some(width) = width.filter(|&w| w > 0) else { return 4 };
    // The fewest rounds, then the smallest tile that needs no more.
    width.div_ceil(width.div_ceil(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels() {
        let of = |n| panel_vectors(Some(n), 4, false);
        assert_eq!((of(1), of(4), of(5), of(8), of(12), of(16), of(24), of(64), of(1000)), (1, 1, 2, 2, 3, 2, 2, 2, 2));
        assert_eq!(panel_vectors(None, 4, false), 2);
        assert_eq!((panel_vectors(Some(12), 4, true), panel_vectors(Some(13), 4, true)), (3, 4));
    }

    #[test]
    fn every_panel_has_a_tile() {
        for cpu in crate::CPU_LEVELS {
            let triple =
                if cpu.arch == Arch::X86_64 { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
            let target = Target::new(triple, Some(cpu.name)).unwrap();
            for vectors in 1..=3 {
                let tile = tile(&target, vectors);
                assert!(tile.rows > 1 && tile.vectors == vectors);
                assert_eq!(row_block(tile, 4096) % u64::from(tile.rows), 0);
            }
            assert_eq!(depthwise_columns(&target, Some(7)), 7);
            assert_eq!(depthwise_columns(&target, Some(14)), 7);
            assert_eq!(depthwise_columns(&target, Some(1)), 1);
        }
    }
}
