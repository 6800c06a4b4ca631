//! The text form of kernels: `parse(print(kernel)) == kernel`, for kernels whose values are all defined by a statement.
//!
//! ```text
//! kernel scale(p0, p1; n)
//!   v0 = p0; v1 = p1; v2 = 0; v3 = n; v6 = 0.5:f32x4
//!   for v4 = 0 to n step 4
//!     v5: f32x4 = load [p0 + v4*4]
//!     v7: f32x4 = mul v5, 0.5:f32x4
//!     store [p1 + v4*4], v7
//! ```
//!
//! - The first line names pointers and symbols, in order. Blocks are indented; `;` separates statements on a line;
//!   `//` begins a comment.
//! - Pointers (`p0`), symbols (`n`, `'any text'`) and numbers (`0`, `0:i32x4`, `0.5:f32`; of type `i64` if none
//!   follows) are literals. A use is the value that the first `v2 = 0` defines; without one, the literal is defined at
//!   entry.
//! - `v7: f32x4 = mul v5, v6` computes; [`instructions`] has names and operands, in one table for both directions.
//! - `for v4 = 0 to n step 4, v8 = v2` carries a value; `next v9 giving v10` after the body defines its next and final
//!   value.
//! - `giving v9 = v5 or v7` after the blocks of `if v3` and `else` defines a result of both.
//! - Values that statements define have the type of their initial value, unless a type is given: `v8: f32 = v2`.

mod cursor;
mod instructions;
mod parse;
mod print;
mod show;
mod words;

#[cfg(test)]
mod tests;
