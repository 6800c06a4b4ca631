//! What the outputs lose when one site takes an option.
//!
//! Where time allows, whole models are measured, each with one site changed. Else a layer's local error, `trace(D H D^T)`
//! over `trace(W H W^T)` with the change `D` of its weights `W` and the Gram matrix `H` of its data, says how sites
//! compare, and a few measured ones (probes) how much of it reaches the outputs; between probes, in the order of layers,
//! the ratio is interpolated. Local errors leave out what rounding the data costs, which is then as large as at the probes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Sites that are measured where local errors are used.
pub const PROBES: usize = 8;

/// How sensitivities were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// Whole models, each with one site changed, were measured.
    Measured,
    /// Local errors, scaled by probes.
    Local,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Measured => f.write_str("measured, each layer by itself"),
            How::Local => write!(f, "local errors of layers, scaled by {PROBES} measured ones an option"),
        }
    }
}

/// What each option of each site loses by itself, `None` where it is not possible; relative, as [`Loss`](crate::loss::Loss).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensitivities {
    /// How they were found.
    pub how: How,
    /// By site, then option.
    pub losses: Vec<Vec<Option<f64>>>,
}

/// The numbers of the sites to probe: the first, the last, and others at equal distances.
pub fn probes(sites: usize) -> Vec<usize> {
    let count = PROBES.min(sites);
    let mut chosen: Vec<usize> = (0..count).map(|n| n * (sites - 1) / (count - 1).max(1)).collect();
    chosen.dedup();
    chosen
}

/// A measured site: its number, and what the outputs lose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// The site.
    pub site: usize,
    /// The loss.
    pub loss: f64,
}

/// Losses of the outputs from local errors and probes in the order of sites.
pub fn scaled(local: &[f64], probes: &[Probe]) -> Vec<f64> {
    // Ratios in logarithms; a probe without error says nothing.
    let told = probes.iter().filter(|p| p.loss > 0.0 && p.loss.is_finite() && local[p.site] > 0.0);
    let told: Vec<(f64, f64)> = told.map(|p| (p.site as f64, (p.loss / local[p.site]).ln())).collect();
    let ratio = |site: f64| {
        let after = told.iter().position(|t| t.0 >= site).unwrap_or(told.len());
        match (after.checked_sub(1).map(|n| told[n]), told.get(after)) {
            (Some((a, x)), Some(&(b, y))) => x + (y - x) * (site - a) / (b - a),
            (Some((_, x)), None) => x,
            (None, Some(&(_, y))) => y,
            (None, None) => 0.0,
        }
    };
    let at = |(site, error): (usize, &f64)| {
        let measured = probes.iter().find(|p| p.site == site).map(|p| p.loss);
        measured.unwrap_or_else(|| error * ratio(site as f64).exp())
    };
    local.iter().enumerate().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_scale_their_neighbours() {
        let local = [0.1, 0.1, 0.2, 0.1, 0.1];
        let told = scaled(&local, &[Probe { site: 0, loss: 0.1 }, Probe { site: 4, loss: 0.4 }]);
        let right = [0.1, 0.1 * 4f64.powf(0.25), 0.2 * 2.0, 0.1 * 4f64.powf(0.75), 0.4];
        assert!(told.iter().zip(right).all(|(t, r)| (t - r).abs() < 1e-12), "{told:?}");
        assert_eq!(scaled(&local, &[]), local);
        assert_eq!(scaled(&[0.0, 1.0], &[Probe { site: 0, loss: 0.3 }]), [0.3, 1.0]);
    }

    #[test]
    fn probes_are_spread() {
        assert_eq!(probes(1), [0]);
        assert_eq!(probes(3), [0, 1, 2]);
        assert_eq!(probes(50), [0, 7, 14, 21, 28, 35, 42, 49]);
    }
}
