//! The reasons why a model rejects its arguments: the table of texts in its descriptor that return codes refer to.
//!
//! The low [`KIND_BITS`] bits of a code are a [`Status`], the others the number of a text, counted from 1; 0 means no
//! text.

use std::collections::HashMap;

use super::abi::{KIND_BITS, Status};

/// Texts in the order of their first use, each once.
#[derive(Debug, Default)]
pub struct Refusals {
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Refusals {
    /// The code for a kind and a text.
    pub fn code(&mut self, kind: Status, text: &str) -> i32 {
        let next = self.texts.len() + 1;
        let number = *self.numbers.entry(text.to_string()).or_insert(next);
        if number == next {
            self.texts.push(text.to_string());
        }
        // In a model with more than eight million requirements, later ones report only their kind.
        i32::try_from((number as i64) << KIND_BITS).unwrap_or(0) | kind as i32
    }

    /// All texts: number 1 is the first.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}
