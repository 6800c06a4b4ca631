//! What the cost formulas know of a CPU: caches, rates and ratios, each with its unit in its name.
//!
//! Every row of [`CPU_LEVELS`](crate::CPU_LEVELS) names its machine. So far there is one measured machine, [`ZEN5`], which all
//! x86-64 levels name, and one assumed machine, [`ARM`], which all 64-bit Arm levels name: a CPU gets figures of its own by a
//! row here and its name in its level's row. `docs/cost-model.md` tells how the figures are measured.

/// A CPU as the cost formulas see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The core that the figures are of.
    pub name: &'static str,
    /// Bytes of a line of all caches.
    pub cache_line_bytes: u32,
    /// Bytes of the first-level data cache.
    pub l1d_bytes: u64,
    /// Sets of the first-level data cache: addresses that differ by a multiple of sets times line compete for the ways of one.
    pub l1d_sets: u32,
    /// Bytes of a core's second-level cache.
    pub l2_bytes: u64,
    /// Cycles in a nanosecond, by which other rates become times: below the clock of the measured core, so that predicted
    /// times are nominal ones and only their ratios count.
    pub nominal_cycles_per_ns: u32,
    /// Multiply-adds of `f32`, on whole vectors, that begin in a cycle.
    pub vector_multiply_adds_per_cycle: u32,
    /// Bytes that come from the second-level cache in a nanosecond, read in order.
    pub l2_bytes_per_ns: u32,
    /// Bytes that come from memory in a nanosecond, read in order by one core.
    pub memory_bytes_per_ns: u32,
    /// Bytes that element-wise code reads and writes in a nanosecond where they come from the caches.
    pub streamed_bytes_per_ns: u32,
}

/// AMD Zen 5 (EPYC 9005), one core, where all figures were measured. Caches are those that the CPU tells (`lscpu -C`); rates are
/// those with which predictions fit the times of single layers (`mcc bench --profile`).
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
};

/// 64-bit Arm. No core of it was measured: what is no property of the instruction set is that of [`ZEN5`].
pub const ARM: Machine = Machine { name: "64-bit Arm, assumed", ..ZEN5 };

impl Machine {
    /// Bytes of so many sixteenths of a core's second-level cache.
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

    /// Multiply-adds of whole vectors in a nanosecond.
    pub const fn vector_multiply_adds_per_ns(&self) -> u32 {
        self.nominal_cycles_per_ns * self.vector_multiply_adds_per_cycle
    }

    /// Bytes from one address to the next that falls into the same set of the first-level cache.
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
