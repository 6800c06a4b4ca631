//! The staged planes from which a sparse kernel reads.
//!
//! A kernel of [`WeightFormat::NonZeros`](crate::WeightFormat::NonZeros) computes a tile of results at a time. It first
//! stages the elements that they depend on, as one plane per channel, laid out such that the element that a weight
//! multiplies is at the same distance from the first result's element for every result. A non-zero is then a value and
//! one offset.
//!
//! Output channels are in blocks of `block`, input channels in slices of `depth`, so that the planes that a block reads
//! in a slice stay in the first-level cache. The non-zeros of a block in a slice follow those of its earlier slices.
//! Output channels with about the same number of non-zeros are neighbours: `abreast` of them are a group, whose
//! non-zeros are stored in turn. A channel with fewer non-zeros is padded with zeros that refer to the plane after the
//! last channel, which holds zeros.
//!
//! Of a group, `shared` neighbours may have their non-zeros at the same places (or zeros there): then each offset has a
//! value for each of them.
//!
//! Bytes are grouped in words: the above applies to groups of four input channels, and a non-zero is four bytes of
//! which at least one is not zero.
//!
//! - For a matrix, a plane holds a channel's elements of some rows.
//! - For an image, a plane holds some lines, `pitch` elements apart, padding included. With a stride, the elements that
//!   the same tap of neighbouring windows reads are adjacent: there is a phase per axis and remainder, one after
//!   another, the last axis fastest. Every column of the window may have a separate phase, so that all vectors are
//!   aligned.

use crate::{ConvSpec, DType};

/// The extents of staged planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Staging {
    /// Lines of results in a tile; for a matrix, rows.
    pub lines: usize,
    /// Elements between lines; 1 for a matrix.
    pub pitch: usize,
    /// Results of a tile, including gaps between lines, padded to whole vectors of any length.
    pub span: usize,
    /// Elements of a phase.
    pub phase: usize,
    /// Whether every column of the window has a separate phase.
    pub aligned: bool,
    /// Output channels of a group: a power of two, at least [`Staging::STEP`].
    pub abreast: usize,
    /// Output channels that share offsets: a power of two, at most [`Staging::STEP`].
    pub shared: usize,
    /// Output channels of a block: whole groups, at most [`Staging::MAX_BLOCK_CHANNELS`].
    pub block: usize,
    /// Input channels of a slice.
    pub depth: usize,
}

/// The phases along an axis: windows with a stride read every remainder that the kernel reaches.
fn phases(kernel: i64, stride: i64) -> i64 {
    kernel.min(stride).max(1)
}

impl Staging {
    /// Maximum output channels of a block, since a slot is a byte.
    pub const MAX_BLOCK_CHANNELS: usize = 256;

    /// Non-zeros loaded at once.
    pub const STEP: usize = 4;

    /// Channels per element of a plane.
    pub fn elements(dtype: DType) -> usize {
        if dtype == DType::F32 { 1 } else { 4 }
    }

    /// Number of groups of `out` output channels.
    pub fn groups(&self, out: usize) -> usize {
        out / self.block * (self.block / self.abreast) + (out % self.block).div_ceil(self.abreast)
    }

    /// The first output channel of the block of every group that is listed.
    pub fn listed(&self, out: usize, channels: usize) -> Vec<usize> {
        let of_block = |first: usize| vec![first; self.slices(channels) * self.groups((out - first).min(self.block))];
        (0..out).step_by(self.block).flat_map(of_block).collect()
    }

    /// Number of lists of a group's non-zeros: one per slice of the input channels.
    pub fn slices(&self, channels: usize) -> usize {
        channels.div_ceil(self.depth).max(1)
    }

    /// Elements per unit of an offset: the largest power of two, up to a vector of the longest kind, that divides the
    /// planes and the places of all taps.
    pub fn unit(&self, spec: &ConvSpec, kernel: &[i64]) -> usize {
        let all = self.places(spec, kernel).into_iter().fold(16 | self.plane(spec, kernel), |all, place| all | place);
        1 << all.trailing_zeros()
    }

    /// Whether a convolution can be staged: at most two spatial axes, one group, no dilation together with a stride.
    pub fn fits(spec: &ConvSpec) -> bool {
        let plain = |(&s, &d): (&i64, &i64)| s == 1 || d == 1;
        spec.group == 1 && spec.strides.len() <= 2 && spec.strides.iter().zip(&spec.dilations).all(plain)
    }

    /// Whether the planes hold all elements that a tile's results read.
    pub fn holds(&self, spec: &ConvSpec, kernel: &[i64]) -> bool {
        let reach = self.reach(spec, kernel);
        let reach = match reach.as_slice() {
            [] => 0,
            [columns] => *columns as usize,
            [lines, columns, ..] => *lines as usize * self.pitch + *columns as usize,
        };
        let whole = self.span.is_power_of_two() || self.span.is_multiple_of(16);
        let lines = self.lines.saturating_sub(1).saturating_mul(self.pitch) < self.span;
        let groups = self.abreast.is_power_of_two() && self.abreast >= Self::STEP;
        let groups = groups && self.shared.is_power_of_two() && self.shared <= Self::STEP;
        let blocks = self.block.is_multiple_of(self.abreast)
            && (1..=Self::MAX_BLOCK_CHANNELS).contains(&self.block)
            && self.depth > 0;
        groups
            && blocks
            && self.lines > 0
            && self.pitch > 0
            && whole
            && lines
            && self.phase >= self.span.saturating_add(reach)
    }

    /// Phases of each spatial axis.
    pub fn phases(&self, spec: &ConvSpec, kernel: &[i64]) -> Vec<i64> {
        let own = |axis| self.aligned && axis + 1 == kernel.len();
        (0..kernel.len()).map(|a| if own(a) { kernel[a] } else { phases(kernel[a], spec.strides[a]) }).collect()
    }

    /// Additional lines or columns of a plane, compared with the results, along each axis.
    pub fn reach(&self, spec: &ConvSpec, kernel: &[i64]) -> Vec<i64> {
        let own = |axis| self.aligned && axis + 1 == kernel.len();
        let reach = |axis: usize| (kernel[axis] - 1) * spec.dilations[axis] / spec.strides[axis];
        (0..kernel.len()).map(|a| if own(a) { 0 } else { reach(a) }).collect()
    }

    /// Elements per channel.
    pub fn plane(&self, spec: &ConvSpec, kernel: &[i64]) -> usize {
        self.phases(spec, kernel).iter().product::<i64>() as usize * self.phase
    }

    /// Position of the first result's element for a tap within a plane.
    pub fn place(&self, spec: &ConvSpec, kernel: &[i64], tap: &[i64]) -> usize {
        let phases = self.phases(spec, kernel);
        let (mut phase, mut shift) = (0, 0);
        for axis in 0..kernel.len() {
            let at = tap[axis] * spec.dilations[axis];
            // Along the last axis elements are adjacent, along the one before it a pitch apart.
            let last = axis + 1 == kernel.len();
            if last && self.aligned {
                phase = phase * phases[axis] as usize + tap[axis] as usize;
                continue;
            }
            let distance = if last { 1 } else { self.pitch };
            phase = phase * phases[axis] as usize + (at % spec.strides[axis]) as usize;
            shift += (at / spec.strides[axis]) as usize * distance;
        }
        phase * self.phase + shift
    }

    /// The place of every tap, the last axis fastest.
    pub fn places(&self, spec: &ConvSpec, kernel: &[i64]) -> Vec<usize> {
        let taps: i64 = kernel.iter().product();
        let mut tap = vec![0; kernel.len()];
        (0..taps)
            .map(|n| {
                let mut rest = n;
                for axis in (0..kernel.len()).rev() {
                    tap[axis] = rest % kernel[axis];
                    rest /= kernel[axis];
                }
                self.place(spec, kernel, &tap)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[test]
    fn places_of_taps() {
        let spec = |stride| ConvSpec {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads: vec![(1, 1); 2],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        let staging = Staging {
            lines: 4,
            pitch: 10,
            span: 48,
            phase: 80,
            aligned: false,
            abreast: 4,
            shared: 1,
            block: 64,
            depth: 8,
        };
        assert_eq!(staging.places(&spec(1), &[3, 3]), [0, 1, 2, 10, 11, 12, 20, 21, 22]);
        // Even and odd lines and columns are separate: the third tap reads what the first tap of the next window reads.
        assert_eq!(staging.places(&spec(2), &[3, 3]), [0, 80, 1, 160, 240, 161, 10, 90, 11]);
        let aligned = Staging { pitch: 16, aligned: true, ..staging };
        assert_eq!(aligned.places(&spec(1), &[2, 3]), [0, 80, 160, 16, 96, 176]);
        assert_eq!([5, 64, 65, 130].map(|out| staging.groups(out)), [2, 16, 17, 33]);
        assert_eq!([1, 8, 9].map(|channels| staging.slices(channels)), [1, 1, 2]);
        assert_eq!((staging.unit(&spec(1), &[3, 3]), aligned.unit(&spec(1), &[3, 3])), (1, 16));
        let half = Staging { pitch: 24, ..aligned };
        assert_eq!(half.unit(&spec(1), &[3, 3]), 8);
        assert_eq!((staging.plane(&spec(2), &[3, 3]), staging.plane(&spec(2), &[1, 1])), (320, 80));
    }
}
