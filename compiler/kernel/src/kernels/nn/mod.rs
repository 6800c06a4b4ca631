//! Other layers: attention, softmax, normalisation, recurrences.

pub mod attention;
pub mod normalize;
pub mod recurrent;
pub mod softmax;
