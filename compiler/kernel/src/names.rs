//! C names for arbitrary strings.
//!
//! A C name is its kind followed by the characters of the name that an identifier may have: `input_image`. No keyword
//! or header macro of C or C++, and no name of the interface, begins so. Whatever names a model uses, this needs no
//! table of reserved words, and no later standard can add conflicts.

use std::collections::HashSet;

/// Hands out distinct C identifiers.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// An identifier of a kind (a lower-case word) similar to `name`, distinct from all earlier ones.
    pub fn c_name(&mut self, kind: &str, name: &str) -> String {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let base = format!("{kind}_{}", plain.trim_matches('_'));
        self.distinct(base.trim_end_matches('_'))
    }

    /// A name that is not used yet: this one, or this one with a numeric suffix.
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
