//! The text form of a graph: one line per node, `parse(print(graph)) == graph`.
//!
//! ```text
//! %0 = input "x" : f32[batch, 3, 8, 8]  // x
//! %1 = constant splat 0.5 : f32[8, 3, 1, 1]
//! %2 = conv(%0, %1) {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first} : f32[batch, 8, 8, 8]  // /stem/Conv
//! %3 = exp(%2) : f32[batch, 8, 8, 8]
//! output "y" = %3
//! requires batch == n
//! ```
//!
//! The regions of a condition follow its line, each a graph with its own values; spaces at the beginning of a line are
//! ignored:
//!
//! ```text
//! %2 = if(%0, %1) {binds=[taken]} : f32[taken, 3]
//!   then
//!     %0 = input "0" : f32[n, 3]
//!     output "0" = %0
//!   else
//!     %0 = input "0" : f32[n, 3]
//!     %1 = slice(%0) {ranges=[0:1, 0:3]} : f32[1, 3]
//!     output "0" = %1
//!   end
//! ```
//!
//! The text after `//` on a node's line is its label; lines that start with `//` are comments. Symbols that are not
//! plain names are in single quotes. Constants are values in brackets, also if there is only one, as in `constant [0.5]
//! : f32[]` (up to [`MAX_LISTED_ELEMENTS`] elements), `splat` and a value, or hexadecimal bytes in memory order. For
//! large constants in tests there are generators, which the printer does not use: `noise(seed=2)` and `sparse(seed=1,
//! density=0.1)`, or in blocks `sparse(seed=1, density=0.1, block=[4, 16])`; see
//! [`NonZeros`](super::random::NonZeros).

mod attr;
mod dim;
mod ops;
mod parse;
mod print;

#[cfg(test)]
pub(super) use attr::Words;
pub use attr::{escape, unescape};
#[cfg(test)]
pub(super) use ops::operation;
pub use parse::parse;
pub use print::{Constants, node_signature, print, print_with, signature};

/// The lines before each region of a condition, and after the last one.
const REGIONS: [&str; 2] = ["then", "else"];
const END: &str = "end";

/// Constants with more elements are written as bytes.
pub const MAX_LISTED_ELEMENTS: usize = 64;

#[cfg(test)]
mod tests;
