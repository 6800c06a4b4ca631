//! C names for names that are arbitrary strings.

use std::collections::HashSet;

/// Hands out distinct C identifiers.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// An identifier like `name`, distinct from all given before; `fallback` when nothing of it can stand in one.
    pub fn c_name(&mut self, name: &str, fallback: &str) -> String {
        let base = identifier(name, fallback);
        let mut candidate = base.clone();
        let mut n = 2;
        while !self.taken.insert(candidate.clone()) {
            candidate = format!("{base}_{n}");
            n += 1;
        }
        candidate
    }
}

/// `name` with everything that C does not allow in an identifier replaced by `_`.
pub fn identifier(name: &str, fallback: &str) -> String {
    let mut id: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !id.chars().any(|c| c.is_ascii_alphanumeric()) {
        id = fallback.to_string();
    }
    if id.starts_with(|c: char| c.is_ascii_digit()) || RESERVED.contains(&id.as_str()) || id.starts_with('_') {
        id = format!("{}_{}", fallback, id.trim_start_matches('_'));
    }
    id
}

/// Keywords of C11 and C++17, and the names that generated functions use for their own parameters.
const RESERVED: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "arena",
    "arena_size",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "compl",
    "const",
    "const_cast",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arbitrary_names() {
        let mut names = Names::default();
        assert_eq!(names.c_name("gpu_0/data_0", "input"), "gpu_0_data_0");
        assert_eq!(names.c_name("gpu_0.data_0", "input"), "gpu_0_data_0_2");
        assert_eq!(names.c_name("387", "output"), "output_387");
        assert_eq!(names.c_name("", "input"), "input");
        assert_eq!(names.c_name("float", "input"), "input_float");
        assert_eq!(names.c_name("输入", "input"), "input_2");
    }
}
