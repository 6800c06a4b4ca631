//! Whether a tensor is close enough to the one that was expected.

use mcc::ir::Tensor;

/// `|got - want| <= atol + rtol * |want|`, element by element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Relative to the expected value.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Tolerance { rtol: 1e-3, atol: 1e-5 }
    }
}

/// Describes how `got` differs from `want`, if it does. Floats may differ within the tolerance, and NaN equals NaN;
/// everything else must be equal.
pub fn difference(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Option<String> {
    if got.dtype() != want.dtype() {
        return Some(format!("elements are {}, expected {}", got.dtype(), want.dtype()));
    }
    if got.shape() != want.shape() {
        return Some(format!("shape is {:?}, expected {:?}", got.shape(), want.shape()));
    }
    if got.data() == want.data() {
        return None;
    }
    let mut wrong = Wrong { count: 0, first: 0, worst: 0, worst_by: -1.0 };
    for i in 0..want.numel() {
        if want.dtype().is_float() {
            let (g, w) = (got.f64_at(i), want.f64_at(i));
            // Infinities of the same sign are equal, but their difference is NaN.
            let same = g == w || g.is_nan() && w.is_nan();
            let by = (g - w).abs();
            if !same && (by.is_nan() || by > tolerance.atol + tolerance.rtol * w.abs() || w.is_infinite()) {
                wrong.add(i, if by.is_nan() { f64::INFINITY } else { by });
            }
        } else if got.i64_at(i) != want.i64_at(i) {
            wrong.add(i, got.i64_at(i).abs_diff(want.i64_at(i)) as f64);
        }
    }
    if wrong.count == 0 {
        return None;
    }
    let show = |i: usize| {
        let (g, w) = match want.dtype().is_float() {
            true => (format!("{:e}", got.f64_at(i)), format!("{:e}", want.f64_at(i))),
            false => (got.i64_at(i).to_string(), want.i64_at(i).to_string()),
        };
        format!("element {} is {g}, expected {w}", place(i, want.shape()))
    };
    let mut text = format!("{} of {} elements differ; {}", wrong.count, want.numel(), show(wrong.first));
    if wrong.worst != wrong.first {
        text += &format!("; worst: {}", show(wrong.worst));
    }
    Some(text)
}

struct Wrong {
    count: usize,
    first: usize,
    worst: usize,
    worst_by: f64,
}

impl Wrong {
    fn add(&mut self, i: usize, by: f64) {
        if self.count == 0 {
            self.first = i;
        }
        if by > self.worst_by {
            (self.worst, self.worst_by) = (i, by);
        }
        self.count += 1;
    }
}

/// The multi-dimensional index of a row-major one, such as `[1,0,2]`.
fn place(mut i: usize, shape: &[usize]) -> String {
    let mut index = vec![0; shape.len()];
    for (slot, &d) in index.iter_mut().zip(shape).rev() {
        (*slot, i) = (i % d.max(1), i / d.max(1));
    }
    let parts: Vec<String> = index.iter().map(usize::to_string).collect();
    format!("[{}]", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc::ir::DType;

    fn floats(values: &[f64]) -> Tensor {
        Tensor::from_f64s(DType::F32, vec![values.len()], values).unwrap()
    }

    fn check(got: &[f64], want: &[f64], expected: Option<&str>) {
        let found = difference(&floats(got), &floats(want), Tolerance::default());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn floats_within_tolerance() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        check(&[1.0005, nan, inf, -inf, 0.000009], &[1.0, nan, inf, -inf, 0.0], None);
        check(
            &[1.0, 1.01],
            &[1.0, 1.0],
            Some("1 of 2 elements differ; element [1] is 1.0099999904632568e0, expected 1e0"),
        );
        check(&[inf], &[1.0], Some("1 of 1 elements differ; element [0] is inf, expected 1e0"));
        check(&[1.0], &[inf], Some("1 of 1 elements differ; element [0] is 1e0, expected inf"));
        check(&[-inf], &[inf], Some("1 of 1 elements differ; element [0] is -inf, expected inf"));
        check(&[0.0], &[nan], Some("1 of 1 elements differ; element [0] is 0e0, expected NaN"));
    }

    #[test]
    fn integers_and_types_exactly() {
        let a = Tensor::from_i64s(DType::I64, vec![2, 2], &[5000, 1, 2, 3]).unwrap();
        let b = Tensor::from_i64s(DType::I64, vec![2, 2], &[5000, 1, 2, 9]).unwrap();
        let found = difference(&a, &b, Tolerance::default());
        assert_eq!(found.as_deref(), Some("1 of 4 elements differ; element [1,1] is 3, expected 9"));
        assert!(difference(&a, &floats(&[1.0]), Tolerance::default()).unwrap().contains("expected f32"));
        assert!(
            difference(&a, &a.reshaped(vec![4]).unwrap(), Tolerance::default()).unwrap().contains("shape is [2, 2]")
        );
    }
}
