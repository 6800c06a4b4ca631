//! Short names for parts of dimension expressions, which otherwise fill pages.

use serde_json::Value;

/// Names longer than this are replaced.
const LONG_NAME: usize = 8;
/// Functions in expressions, as [`Dim`](mcc::ir::Dim) prints them.
const FUNCTIONS: [&str; 4] = ["floordiv(", "min(", "max(", "ifneg("];

/// Short names and what they stand for: `s1`, `s2`, ... for symbols, `d1`, `d2`, ... for values of functions.
pub struct Names {
    /// Short name and text, in the order in which they were made; texts are written with the earlier names.
    known: Vec<(String, String)>,
    /// Those of the model's symbols, the longest first.
    symbols: Vec<(String, String)>,
}

impl Names {
    /// Names for the long symbols of a report.
    pub fn new(report: &Value) -> Names {
        let symbols = report["symbols"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let long = symbols.filter(|s| s.len() > LONG_NAME).enumerate();
        let mut symbols: Vec<(String, String)> = long.map(|(n, s)| (format!("s{}", n + 1), s.to_string())).collect();
        // A name may begin with another one.
        symbols.sort_by_key(|(_, text)| std::cmp::Reverse(text.len()));
        Names { known: Vec::new(), symbols }
    }

    /// A text with short names in place of what they stand for.
    pub fn shorten(&mut self, text: &str) -> String {
        let mut text = text.to_string();
        for (name, symbol) in &self.symbols {
            if text.contains(symbol.as_str()) {
                text = text.replace(symbol.as_str(), name);
                if !self.known.iter().any(|(known, _)| known == name) {
                    self.known.push((name.clone(), symbol.clone()));
                }
            }
        }
        // The call that begins last contains no other.
        while let Some(call) = last_call(&text) {
            let name = match self.known.iter().find(|(_, known)| *known == call) {
                Some((name, _)) => name.clone(),
                None => {
                    let count = self.known.iter().filter(|(name, _)| name.starts_with('d')).count();
                    self.known.push((format!("d{}", count + 1), call.clone()));
                    format!("d{}", count + 1)
                }
            };
            text = text.replace(&call, &name);
        }
        text
    }

    /// What the names stand for.
    pub fn legend(&self) -> String {
        let lines = self.known.iter().map(|(name, text)| format!("  {name} = {text}\n"));
        if self.known.is_empty() { String::new() } else { format!("where\n{}", lines.collect::<String>()) }
    }
}

/// The text of the call of a function that begins last.
fn last_call(text: &str) -> Option<String> {
    let start = FUNCTIONS.iter().filter_map(|f| text.rfind(f)).max()?;
    let mut depth = 0;
    let end = text[start..].char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        *c == ')' && depth == 0
    });
    Some(text[start..=start + end?.0].to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_become_short_and_stay_true() {
        let mut names = Names::new(&json!({ "symbols": ["image.width", "image.width.2", "n"] }));
        let text = "8*n*floordiv(floordiv(image.width+1,2)+1,2)+floordiv(image.width+1,2)*image.width.2";
        let short = names.shorten(text);
        assert_eq!(short, "8*n*d2+d1*s2");
        assert_eq!(names.shorten("max(0,(n+1)*floordiv(image.width+1,2)) bytes"), "d3 bytes");
        // Replacing the names by what they stand for, the last first, gives the text again.
        let mut back = short;
        for (name, meaning) in names.known.iter().rev() {
            back = back.replace(name, meaning);
        }
        assert_eq!(back, text);
        assert!(names.legend().contains("  d2 = floordiv(d1+1,2)\n"), "{}", names.legend());
    }
}
