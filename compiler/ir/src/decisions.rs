//! Decisions about layers, and their reasons: recorded with the graph for `mcc inspect`.
//!
//! A decision is about one subject of one layer; a repeated decision replaces the earlier one, so that passes may run
//! again. Decisions keep the order in which they were first made, which follows the graph.

use std::fmt;

/// The subject of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The layer's remaining channels.
    Channels,
    /// The number format in which the layer computes.
    Precision,
    /// The layout of the layer's activations.
    Layout,
    /// The storage format of the layer's weights, and thus its kernel.
    Weights,
    /// The other layer that is computed in the same kernel.
    Fusion,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Channels => "channels",
            Subject::Precision => "precision",
            Subject::Layout => "layout",
            Subject::Weights => "weights",
            Subject::Fusion => "fusion",
        })
    }
}

/// A decision about a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The layer: the label of the node that it comes from, as in listings and profiles.
    pub layer: String,
    /// The subject.
    pub subject: Subject,
    /// Name of the layer's operation.
    pub operator: &'static str,
    /// The chosen form in a few words: `dense`, `sparse`, `1x16 blocks`, `int8`, `int4 in blocks of 32`, ...
    pub form: String,
    /// The share of the layer's weights that are zero, from 0 to 1.
    pub zeros: Option<f64>,
    /// Predicted speed-up of this form over the layer as in the model.
    pub gain: Option<f64>,
    /// The reason for this form, or against a better one.
    pub reason: String,
}

impl Decision {
    /// A decision without numbers.
    pub fn new(
        layer: impl Into<String>,
        subject: Subject,
        operator: &'static str,
        form: impl Into<String>,
        reason: impl Into<String>,
    ) -> Decision {
        let (layer, form, reason) = (layer.into(), form.into(), reason.into());
        Decision { layer, subject, operator, form, zeros: None, gain: None, reason }
    }

    /// Adds the share of zeros in the weights.
    pub fn zeros(self, share: f64) -> Decision {
        Decision { zeros: Some(share), ..self }
    }

    /// Adds the predicted gain.
    pub fn gain(self, gain: f64) -> Decision {
        Decision { gain: Some(gain), ..self }
    }
}

/// All decisions.
#[derive(Debug, Clone, Default)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// Records a decision, or replaces an earlier one with the same layer and subject.
    pub fn record(&mut self, decision: Decision) {
        match self.0.iter_mut().find(|d| d.layer == decision.layer && d.subject == decision.subject) {
            Some(earlier) => *earlier = decision,
            None => self.0.push(decision),
        }
    }

    /// By layer, in the order of the layers' first decisions.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        let mut sorted: Vec<(usize, &Decision)> = self.0.iter().map(|d| (self.first(&d.layer), d)).collect();
        sorted.sort_by_key(|&(first, d)| (first, d.subject));
        sorted.into_iter().map(|(_, d)| d)
    }

    fn first(&self, layer: &str) -> usize {
        self.0.iter().position(|d| d.layer == layer).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_stands_where_the_first_stood() {
        let mut decisions = Decisions::default();
        let decide = |layer, subject, form| Decision::new(layer, subject, "conv", form, "");
        decisions.record(decide("a", Subject::Weights, "dense"));
        decisions.record(decide("b", Subject::Weights, "dense"));
        decisions.record(decide("a", Subject::Channels, "half"));
        decisions.record(decide("a", Subject::Weights, "sparse").zeros(0.75).gain(2.0));
        let said: Vec<_> = decisions.iter().map(|d| (d.layer.as_str(), d.form.as_str(), d.gain)).collect();
        assert_eq!(said, [("a", "half", None), ("a", "sparse", Some(2.0)), ("b", "dense", None)]);
    }
}
