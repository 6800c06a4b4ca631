//! C names for names that are arbitrary strings.
//!
//! A name in C is its kind and what of the name an identifier may hold: `input_image`. No keyword and no macro of C's or C++'s
//! headers, and no name of the interface, begins so; whatever a model calls its ports and dimensions, no table of such words is
//! needed, and no later standard adds to it.

use std::collections::HashSet;

/// Hands out distinct C identifiers.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// An identifier of a kind (a word in lower case) like `name`, distinct from all given before.
    pub fn c_name(&mut self, kind: &str, name: &str) -> String {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let base = format!("{kind}_{}", plain.trim_matches('_'));
        self.distinct(base.trim_end_matches('_'))
    }

    /// A name that is not taken yet: this one, or with a number behind it.
    pub fn distinct(&mut self, name: &str) -> String {
        let mut candidate = name.to_string();
        let mut n = 2;
        while !self.taken.insert(candidate.clone()) {
            candidate = format!("{name}_{n}");
            n += 1;
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arbitrary_names() {
        let mut names = Names::default();
        for (name, want) in [
            ("image", "input_image"),
            ("gpu_0/data_0", "input_gpu_0_data_0"),
            ("gpu_0.data_0", "input_gpu_0_data_0_2"),
            ("387", "input_387"),
            ("", "input"),
            ("float", "input_float"),
            ("输入", "input_2"),
            ("__x__", "input_x"),
        ] {
            assert_eq!(names.c_name("input", name), want);
        }
        assert_eq!(names.c_name("output", "image"), "output_image");
    }
}
