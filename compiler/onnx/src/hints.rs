//! Types that a file declares for results: hints, which inference overrules.
//!
//! Exporters write the shapes of one example, and graph editors leave outdated ones behind; every engine computes what
//! the nodes define. So declarations are not used; if one is wrong, a warning says so.

use mcc_proto::ValueInfoProto;
use mcc_proto::tensor_shape_proto::DimensionValue;
use mcc_proto::type_proto::Value as Kind;

use super::builder::Builder;
use super::{content, tensor};
use mcc_ir::{Dim, Value};

/// Contradictions that are reported individually.
const MAX_REPORTED: usize = 5;

/// The contradictions found.
#[derive(Default)]
pub struct Hints {
    contradictions: Vec<String>,
}

impl Hints {
    /// Compares a declared type with the inferred one.
    pub fn compare(&mut self, info: &ValueInfoProto, b: &Builder, value: Value) {
        let Some(Kind::TensorType(declared)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return };
        let is = b.ty(value);
        let other_type = declared.elem_type != 0 && declared.elem_type != tensor::data_type(is.dtype) as i32;
        // Extents that are known at run time only may have the declared value.
        let open = |d: &Dim| b.is_counted(d) || content::has_element(d);
        let extents: Option<Vec<Option<i64>>> = declared.shape.as_ref().map(|shape| {
            let known = |value: &Option<DimensionValue>| match value {
                Some(DimensionValue::DimValue(v)) if *v >= 0 => Some(*v),
                _ => None,
            };
            shape.dim.iter().map(|d| known(&d.value)).collect()
        });
        let other_shape = extents.is_some_and(|extents| {
            let differs = |(d, e): (&Dim, &Option<i64>)| e.is_some_and(|e| !d.is(e) && !open(d));
            extents.len() != is.rank() || is.shape.iter().zip(&extents).any(differs)
        });
        if other_type || other_shape {
            let text = spelt(declared);
            self.contradictions.push(format!("\"{}\" is declared as {text}, but its nodes give {is}", info.name));
        }
    }

    /// The warnings: the first contradictions, and the number of the others.
    pub fn warnings(mut self) -> Vec<String> {
        let more = self.contradictions.len().saturating_sub(MAX_REPORTED);
        self.contradictions.truncate(MAX_REPORTED);
        if more > 0 {
            self.contradictions.push(format!("{more} more results differ from their declared types"));
        }
        self.contradictions
    }
}

/// A declared type, spelled as in the file.
fn spelt(declared: &mcc_proto::type_proto::Tensor) -> String {
    let dtype =
        tensor::dtype(declared.elem_type).map_or_else(|_| format!("type {}", declared.elem_type), |d| d.to_string());
    let Some(shape) = &declared.shape else { return dtype };
    let dims = shape.dim.iter().map(|d| match &d.value {
        Some(DimensionValue::DimValue(v)) => v.to_string(),
        Some(DimensionValue::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".to_string(),
    });
    format!("{dtype}[{}]", dims.collect::<Vec<_>>().join(", "))
}
