//! Figures of the cost formulas that are fitted to measured times, per CPU. `mcc fit` fits them.
//!
//! A figure is here if a knob ([`Knob`](crate::choices::Knob)) checks it: tuning then times what the formulas choose
//! between. Figures are floating-point numbers with their unit in the name.

/// Declares a group of figures with its values for the measured machine, and the list of their names.
macro_rules! figures {
    ($(#[$doc:meta])* $group:ident { $($(#[$field_doc:meta])* $field:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub struct $group {
            $($(#[$field_doc])* pub $field: f64,)*
        }

        impl $group {
            /// The figures of AMD Zen 5.
            pub const ZEN5: $group = $group { $($field: $value,)* };

            /// All figures by name.
            pub fn all_mut(&mut self) -> Vec<(&'static str, &mut f64)> {
                vec![$((stringify!($field), &mut self.$field),)*]
            }
        }
    };
}

figures! {
    /// Sparse layers ([`schedule::sparse`](crate::schedule::sparse)). Multiply-adds are of the longest vectors; a cost per vector
    /// is per vector of them. Fitted to the times of single layers of resnet50 with 50 to 95 % zeros, with AVX-512.
    Sparse {
        /// Additional cost of loading a vector of another plane from the second-level cache.
        l2_load_multiply_adds = 0.8,
        /// Fixed cost of an output channel in a slice.
        channel_multiply_adds = 8.0,
        /// Cost of storing a vector of sums in the only slice.
        sums_stored_multiply_adds = 2.0,
        /// Cost of storing and loading a vector of sums in each of several slices.
        sums_kept_multiply_adds = 3.6,
        /// Fixed cost of staging a channel of a tile of a matrix.
        staged_channel_multiply_adds = 8.0,
        /// Cost of staging a vector of a channel of a tile of a matrix.
        staged_vector_multiply_adds = 4.0,
        /// Cost of fetching a cache line from the second-level cache.
        l2_line_multiply_adds = 2.0,
        /// Cost of fetching a cache line from memory.
        memory_line_multiply_adds = 5.0,
        /// Cost of spreading a non-zero over a vector.
        spread_multiply_adds = 0.6,
        /// Share of the non-zeros that is fetched too late.
        late_fetches_share = 0.5,
        /// Loads per vector of the operand if lines are shorter than vectors.
        short_line_loads = 1.25,
        /// Loads per vector of the operand if lines are packed, so that most vectors cross cache lines.
        packed_line_loads = 1.7,
        /// Cost of a multiply-add if two output channels share what it reads; if only one does it is 1, and waits for a load.
        pair_multiply_adds = 0.85,
        /// Cost of a multiply-add if four output channels share what it reads.
        quad_multiply_adds = 0.8,
        /// Share of the nominal peak, which assumes a slower clock than the measured machine's, that dense kernels of floats reach.
        dense_peak_share = 1.2,
        /// The same for dense kernels of 8-bit integers.
        int8_peak_share = 1.1,
        /// The same for minimal filtering.
        filtering_peak_share = 0.9,
        /// The same for sparse kernels, in addition to the costs above.
        sparse_peak_share = 0.95,
        /// Nanoseconds per non-zero that is multiplied by a single element.
        scalar_ns = 0.35,
        /// Nanoseconds per element that is transposed with vectors of 16 lanes.
        transpose_ns = 0.15,
        /// Nanoseconds per element that copying saves over transposing.
        copy_saves_ns = 0.04,
    }
}

figures! {
    /// Minimal filtering ([`schedule::filtering`](crate::schedule::filtering)), in multiply-adds of `f32` on full vectors. Fitted
    /// to the times of single convolutions, direct and with each tile, with AVX-512.
    Filtering {
        /// Cost of fetching a weight from memory.
        weight_fetch_multiply_adds = 36.0,
        /// Cost of transforming an element in either direction, with 16 lanes.
        transform_multiply_adds = 4.0,
        /// The same for the largest tile of an image, whose transform has more terms and does not fit the registers.
        largest_transform_multiply_adds = 18.0,
        /// Cost of an element of weights transformed at run time.
        filter_multiply_adds = 4.0,
        /// Cost of decoding a weight.
        decode_multiply_adds = 3.0,
        /// Cost of moving an element.
        move_multiply_adds = 16.0,
    }
}

/// All fitted figures of a CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Of sparse layers.
    pub sparse: Sparse,
    /// Of minimal filtering.
    pub filtering: Filtering,
}

impl Figures {
    /// The figures of AMD Zen 5.
    pub const ZEN5: Figures = Figures { sparse: Sparse::ZEN5, filtering: Filtering::ZEN5 };

    /// All figures by group and name.
    pub fn all_mut(&mut self) -> Vec<(String, &mut f64)> {
        let sparse = self.sparse.all_mut().into_iter().map(|(name, figure)| (format!("sparse.{name}"), figure));
        let filtering =
            self.filtering.all_mut().into_iter().map(|(name, figure)| (format!("filtering.{name}"), figure));
        sparse.chain(filtering).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_named_with_units() {
        let mut figures = Figures::ZEN5;
        let all = figures.all_mut();
        for (name, figure) in &all {
            let units = ["_multiply_adds", "_ns", "_share", "_loads"];
            assert!(units.iter().any(|unit| name.ends_with(unit)) && **figure > 0.0, "{name}");
        }
        assert!(all.len() > 25);
    }
}
