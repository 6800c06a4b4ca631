//! Machines as the cost formulas see them: caches, rates and ratios, each with its unit in its name.
//!
//! Every row of [`CPU_LEVELS`](crate::CPU_LEVELS) names its machine. So far there is one measured machine, [`ZEN5`],
//! for all x86-64 levels, and one assumed machine, [`ARM`], for all 64-bit Arm levels. To give a CPU its own figures,
//! add a constant here and name it in the level's row. `docs/cost-model.md` describes how the figures are measured.

use crate::figures::Figures;

/// A machine as the cost formulas see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// The core that the figures describe.
    pub name: &'static str,
    /// Bytes of a line of all caches.
    pub cache_line_bytes: u32,
    /// Bytes of the first-level data cache.
    pub l1d_bytes: u64,
    /// Sets of the first-level data cache: addresses that differ by a multiple of sets times line size compete for the
    /// ways of one set.
    pub l1d_sets: u32,
    /// Bytes of a core's second-level cache.
    pub l2_bytes: u64,
    /// Cycles per nanosecond, to convert other rates to times. It is below the measured core's clock, so predicted
    /// times are nominal and only their ratios count.
    pub nominal_cycles_per_ns: u32,
    /// Multiply-adds of `f32` on whole vectors that start per cycle.
    pub vector_multiply_adds_per_cycle: u32,
    /// Bytes per nanosecond from the second-level cache, read in order.
    pub l2_bytes_per_ns: u32,
    /// Bytes per nanosecond from memory, read in order by one core.
    pub memory_bytes_per_ns: u32,
    /// Bytes per nanosecond that element-wise code reads and writes if they are in the caches.
    pub streamed_bytes_per_ns: u32,
    /// Figures fitted to measured times.
    pub figures: Figures,
}

/// AMD Zen 5 (EPYC 9005), one core, on which all figures were measured. Cache sizes are those that the CPU reports
/// (`lscpu -C`); rates were fitted such that predictions match the times of single layers (`mcc bench --profile`).
pub const ZEN5: Machine = Machine {
    name: "Zen 5",
    cache_line_bytes: 64,
    l1d_bytes: 48 << 10,
    l1d_sets: 64,
    l2_bytes: 1 << 20,
    nominal_cycles_per_ns: 3,
    vector_multiply_adds_per_cycle: 2,
    l2_bytes_per_ns: 64,
    memory_bytes_per_ns: 36,
    streamed_bytes_per_ns: 24,
    figures: Figures::ZEN5,
};

/// 64-bit Arm. No core was measured: whatever does not follow from the instruction set is copied from [`ZEN5`].
pub const ARM: Machine = Machine { name: "64-bit Arm, assumed", ..ZEN5 };

impl Machine {
    /// Bytes of this many sixteenths of a core's second-level cache.
    pub const fn l2_sixteenths(&self, sixteenths: u64) -> u64 {
        self.l2_bytes / 16 * sixteenths
    }

    /// Bytes of a line of all caches.
    pub const fn line_bytes(&self) -> i64 {
        self.cache_line_bytes as i64
    }

    /// Elements of 32 bits in a line of the caches.
    pub const fn line_floats(&self) -> u64 {
        self.cache_line_bytes as u64 / 4
    }

    /// Multiply-adds of whole vectors per nanosecond.
    pub const fn vector_multiply_adds_per_ns(&self) -> u32 {
        self.nominal_cycles_per_ns * self.vector_multiply_adds_per_cycle
    }

    /// Distance in bytes between addresses that map to the same set of the first-level cache.
    pub const fn l1d_way_bytes(&self) -> i64 {
        self.l1d_sets as i64 * self.cache_line_bytes as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CPU_LEVELS;

    #[test]
    fn figures_are_consistent() {
        for level in CPU_LEVELS {
            let m = level.machine;
            assert!(m.cache_line_bytes.is_power_of_two() && m.l1d_sets.is_power_of_two(), "{}", level.name);
            assert_eq!(m.l1d_bytes % m.l1d_way_bytes() as u64, 0, "{}: whole ways", level.name);
            assert!(m.l1d_bytes < m.l2_bytes && m.memory_bytes_per_ns < m.l2_bytes_per_ns, "{}", level.name);
            assert!(level.name != "znver5" || *m == ZEN5);
        }
    }
}
