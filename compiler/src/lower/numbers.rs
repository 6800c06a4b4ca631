//! How element types live in registers: the compute type of each, loads, stores and conversions.
//!
//! | in memory | in registers |
//! |---|---|
//! | `f32`, `f16`, `bf16`, 8- and 4-bit floats | `F32` |
//! | `f64` | `F64` |
//! | `i64`, `u64` | `I64` |
//! | all other integers | `I32`, always in the range of their own type (`u32`: its bits) |
//! | `bool` | `I32`, 0 or 1 |

use super::kir::{Addr, Builder, Elem, Val};
use crate::ir::DType;

/// The register element of a type.
pub fn compute_elem(dtype: DType) -> Elem {
    match dtype {
        DType::F64 => Elem::F64,
        DType::I64 | DType::U64 => Elem::I64,
        _ if dtype.is_float() => Elem::F32,
        _ => Elem::I32,
    }
}

/// Loads `lanes` consecutive elements into the compute type.
pub fn load(k: &mut Builder, dtype: DType, from: Addr, lanes: u32) -> Val {
    let _ = (k, dtype, from, lanes);
    todo!()
}

/// Stores all lanes of a value of the compute type, rounding to a narrower float (half to even).
pub fn store(k: &mut Builder, dtype: DType, to: Addr, v: Val) {
    let _ = (k, dtype, to, v);
    todo!()
}

/// ONNX Cast between compute types.
pub fn cast(k: &mut Builder, v: Val, from: DType, to: DType, saturate: bool) -> Val {
    let _ = (k, v, from, to, saturate);
    todo!()
}

/// The same bits as another type of the same size, between compute types.
pub fn bitcast(k: &mut Builder, v: Val, from: DType, to: DType) -> Val {
    let _ = (k, v, from, to);
    todo!()
}
