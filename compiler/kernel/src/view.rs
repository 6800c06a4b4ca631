//! Views: how an element-wise kernel reads a buffer through transposes, slices and broadcasts without a copy.

use mcc_ir::{Dim, Range};

/// Element `(i0, i1, ...)` of the viewed shape is at `offset + i0 * strides[0] + i1 * strides[1] + ...` of a
/// buffer, counted in elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// Index of the first element.
    pub offset: Dim,
    /// Elements between neighbours along each axis.
    pub strides: Vec<Dim>,
}

impl View {
    /// A whole row-major buffer.
    pub fn contiguous(shape: &[Dim]) -> View {
        let mut strides = vec![Dim::ONE; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = &strides[i] * &shape[i];
        }
        View { offset: Dim::ZERO, strides }
    }

    /// Whether it reads a whole buffer of this shape in order.
    pub fn is_contiguous(&self, shape: &[Dim]) -> bool {
        self.offset.is(0) && self.is_in_order(shape)
    }

    /// Whether it reads contiguous elements, from any offset.
    pub fn is_in_order(&self, shape: &[Dim]) -> bool {
        let plain = View::contiguous(shape);
        (0..shape.len()).all(|i| shape[i].is(1) || self.strides[i] == plain.strides[i])
    }

    /// A view whose axis `i` is axis `perm[i]` of this one.
    pub fn transpose(&self, perm: &[usize]) -> View {
        View { offset: self.offset.clone(), strides: perm.iter().map(|&p| self.strides[p].clone()).collect() }
    }

    /// A range of every axis.
    pub fn slice(&self, ranges: &[Range]) -> View {
        let mut offset = self.offset.clone();
        let mut strides = Vec::with_capacity(ranges.len());
        for (stride, range) in self.strides.iter().zip(ranges) {
            offset = &offset + &(&range.start * stride);
            strides.push(stride * &Dim::from(range.step));
        }
        View { offset, strides }
    }

    /// Broadcast from `from` to `to`, axes aligned at the end.
    pub fn broadcast(&self, from: &[Dim], to: &[Dim]) -> View {
        let new = to.len() - from.len();
        let stride = |i: usize| match i.checked_sub(new) {
            Some(j) if !from[j].is(1) => self.strides[j].clone(),
            _ => Dim::ZERO,
        };
        View { offset: self.offset.clone(), strides: (0..to.len()).map(stride).collect() }
    }

    /// The same elements in the same order in another shape; `None` if strides cannot express it, or symbols hide that
    /// they can.
    pub fn reshape(&self, from: &[Dim], to: &[Dim]) -> Option<View> {
        let mut strides = vec![Dim::ZERO; to.len()];
        let mut old = (0..from.len()).filter(|&a| !from[a].is(1)).peekable();
        let mut new = (0..to.len()).filter(|&a| !to[a].is(1)).peekable();
        while let (Some(&o), Some(&n)) = (old.peek(), new.peek()) {
            let (mut olds, mut news) = (vec![o], vec![n]);
            old.next();
            new.next();
            let (mut have, mut want) = (from[o].clone(), to[n].clone());
            while have != want {
                if (&want - &have).as_const()? > 0 {
                    let o = old.next()?;
                    have = &have * &from[o];
                    olds.push(o);
                } else {
                    let n = new.next()?;
                    want = &want * &to[n];
                    news.push(n);
                }
            }
            if olds.windows(2).any(|p| self.strides[p[0]] != &self.strides[p[1]] * &from[p[1]]) {
                return None;
            }
            let mut stride = self.strides[*olds.last()?].clone();
            for &n in news.iter().rev() {
                strides[n] = stride.clone();
                stride = &stride * &to[n];
            }
        }
        let done = old.next().is_none() && new.next().is_none();
        done.then(|| View { offset: self.offset.clone(), strides })
    }

    /// Whether the last axis is contiguous.
    pub fn has_columns(&self, shape: &[Dim]) -> bool {
        shape.last().is_none_or(|d| d.is(1)) || self.strides.last().is_some_and(|s| s.is(1))
    }

    /// The view as rows of the last axis, from its offset on: the row and column strides; `None` if the leading axes
    /// have no common stride, or the column stride is neither 1 nor 0.
    pub fn as_rows(&self, shape: &[Dim]) -> Option<(Dim, i64)> {
        let Some((cols, leading)) = shape.split_last() else { return Some((Dim::ZERO, 0)) };
        let col = match self.strides.last()?.as_const() {
            _ if cols.is(1) => 0,
            Some(c @ (0 | 1)) => c,
            _ => return None,
        };
        Some((common_stride(leading, &self.strides)?, col))
    }

    /// The view with its last `count` axes merged; `None` if they have no common stride.
    pub fn merged(&self, shape: &[Dim], count: usize) -> Option<View> {
        let kept = shape.len() - count;
        let stride = common_stride(&shape[kept..], &self.strides[kept..])?;
        Some(View { offset: self.offset.clone(), strides: [&self.strides[..kept], &[stride]].concat() })
    }
}

/// The stride at which axes can be traversed as one; `None` if there is none.
fn common_stride(extents: &[Dim], strides: &[Dim]) -> Option<Dim> {
    let mut all: Option<(Dim, Dim)> = None;
    for (extent, stride) in extents.iter().zip(strides).rev().filter(|(extent, _)| !extent.is(1)) {
        all = match all {
            None => Some((stride.clone(), stride * extent)),
            Some((row, next)) if next == *stride => Some((row, stride * extent)),
            Some(_) => return None,
        };
    }
    Some(all.map_or(Dim::ZERO, |a| a.0))
}

/// Merges axes of a loop nest that all views traverse as one, and drops axes of extent 1. Views keep their order; the
/// loop nest's own order is row-major.
pub fn collapse(shape: &[Dim], views: &[View]) -> (Vec<Dim>, Vec<View>) {
    let mut extents: Vec<Dim> = Vec::new();
    let mut strides: Vec<Vec<Dim>> = vec![Vec::new(); views.len()];
    for (axis, extent) in shape.iter().enumerate().rev() {
        if extent.is(1) {
            continue;
        }
        let merges = extents
            .first()
            .is_some_and(|inner| views.iter().zip(&strides).all(|(view, done)| view.strides[axis] == &done[0] * inner));
        if merges {
            extents[0] = &extents[0] * extent;
        } else {
            extents.insert(0, extent.clone());
            for (view, done) in views.iter().zip(&mut strides) {
                done.insert(0, view.strides[axis].clone());
            }
        }
    }
    let views = views.iter().zip(strides).map(|(v, strides)| View { offset: v.offset.clone(), strides }).collect();
    (extents, views)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(d: &[i64]) -> Vec<Dim> {
        d.iter().map(|&d| Dim::from(d)).collect()
    }

    #[test]
    fn rows() {
        let shape = dims(&[1, 4, 5, 6]);
        assert_eq!(View::contiguous(&shape).as_rows(&shape), Some((Dim::from(6i64), 1)));
        let channel = View::contiguous(&dims(&[6])).broadcast(&dims(&[6]), &shape);
        assert_eq!(channel.as_rows(&shape), Some((Dim::ZERO, 1)));
        let pixel = View::contiguous(&dims(&[4, 5, 1])).broadcast(&dims(&[4, 5, 1]), &shape);
        assert_eq!(pixel.as_rows(&shape), Some((Dim::ONE, 0)));
        let column = View::contiguous(&dims(&[4, 1, 1])).broadcast(&dims(&[4, 1, 1]), &shape);
        assert_eq!(column.as_rows(&shape), None);
        let merged = |view: &View| view.merged(&shape, 2).map(|v| v.strides);
        assert_eq!(merged(&View::contiguous(&shape)), Some(dims(&[120, 30, 1])));
        assert_eq!(merged(&column), Some(dims(&[0, 1, 0])));
        assert_eq!(merged(&channel), None);
    }

    #[test]
    fn collapses_what_is_contiguous() {
        let shape = dims(&[2, 3, 1, 4]);
        let plain = View::contiguous(&shape);
        assert_eq!(collapse(&shape, std::slice::from_ref(&plain)).0, dims(&[24]));
        let turned = View::contiguous(&dims(&[3, 2, 1, 4])).transpose(&[1, 0, 2, 3]);
        assert_eq!(collapse(&shape, &[plain, turned]).0, dims(&[2, 3, 4]));
    }
}
