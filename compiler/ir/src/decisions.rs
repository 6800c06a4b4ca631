//! What passes decided for each layer, and why: a record that travels with the graph for `mcc inspect`.
//!
//! A decision is about one subject of one layer; deciding the same again replaces what was said before, so that passes
//! may repeat. The order is that of first decisions, which passes make in the order of the graph.

use std::fmt;

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Which of the layer's channels are left.
    Channels,
    /// In which numbers the layer computes.
    Precision,
    /// Where the layer's activations have their channels.
    Layout,
    /// How the layer's weights are kept, and which kernel takes them.
    Weights,
    /// Which other layer is computed in the same kernel.
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

/// What was decided for a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The layer: the label of the node that it stems from, which listings and profiles show too.
    pub layer: String,
    /// What the decision is about.
    pub subject: Subject,
    /// Name of the layer's operation.
    pub operator: &'static str,
    /// What was chosen, in a few words: `dense`, `sparse`, `1x16 blocks`, `int8`, `int4 in blocks of 32`, ...
    pub form: String,
    /// The share of the layer's weights that are zero, from 0 to 1.
    pub zeros: Option<f64>,
    /// Predicted time of the layer as the model has it over its time in this form.
    pub gain: Option<f64>,
    /// Why this form; also why not a better one.
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

    /// With the share of zeros in the weights.
    pub fn zeros(self, share: f64) -> Decision {
        Decision { zeros: Some(share), ..self }
    }

    /// With the predicted gain.
    pub fn gain(self, gain: f64) -> Decision {
        Decision { gain: Some(gain), ..self }
    }
}

/// All that was decided.
#[derive(Debug, Clone, Default)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// Records a decision, in the place of an earlier one about the same.
    pub fn record(&mut self, decision: Decision) {
        match self.0.iter_mut().find(|d| d.layer == decision.layer && d.subject == decision.subject) {
            Some(earlier) => *earlier = decision,
            None => self.0.push(decision),
        }
    }

    /// By layer, in the order in which layers were first decided about.
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
