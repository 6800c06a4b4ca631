//! Text as tokens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mcc_ir::{Error, Result};
use mcc_onnx::file::read_text;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::schema::{self, Length};

/// Tokens of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    /// The number of each token.
    pub ids: Vec<i64>,
    /// The part of a pair that each token belongs to, 0 or 1.
    pub types: Vec<i64>,
    /// 1 for each token, 0 for padding.
    pub mask: Vec<i64>,
    /// The token after the last one, which cutting keeps.
    pub end: Option<i64>,
}

/// A list of tokens, each with its number.
#[derive(Debug, Clone)]
pub struct Vocabulary(Arc<HashMap<String, i64>>);

/// The lines of a file of vocabulary: what they hold, blanks included.
///
/// # Errors
/// When the file cannot be read, or is empty.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path)?;
    let lines: Vec<String> = text.lines().map(str::to_string).collect();
    match lines.is_empty() {
        true => Err(Error::invalid(format!("{}: the vocabulary is empty", path.display()))),
        false => Ok(lines),
    }
}

impl Vocabulary {
    /// Reads a file with a token a line.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub fn open(path: &Path) -> Result<Vocabulary> {
        let numbered = lines(path)?.into_iter().enumerate().map(|(n, token)| (token, n as i64));
        // Of equal lines the last one counts, as in BERT's own code.
        Ok(Vocabulary(Arc::new(numbered.collect())))
    }

    /// The number of a token that must exist.
    ///
    /// # Errors
    /// When it does not; `path` is that of the vocabulary.
    fn need(&self, token: &str, path: &Path) -> Result<i64> {
        let found = self.0.get(token).copied();
        found.ok_or_else(|| Error::invalid(format!("{}: the vocabulary has no token {token:?}", path.display())))
    }
}

impl Tokens {
    fn of(ids: Vec<i64>) -> Tokens {
        Tokens { types: vec![0; ids.len()], mask: vec![1; ids.len()], ids, end: None }
    }

    /// Every byte is a token.
    pub fn bytes(bytes: &[u8]) -> Tokens {
        Tokens::of(bytes.iter().map(|&b| i64::from(b)).collect())
    }

    /// Cuts and pads to a length.
    ///
    /// # Errors
    /// When there is no room for the last token.
    pub fn length(mut self, how: &Length) -> Result<Tokens> {
        let pad = how.pad as i64;
        let fit = |ids: &mut Vec<i64>, size: usize, value: i64| match how.shorter {
            true => ids.truncate(size),
            false => ids.resize(size, value),
        };
        if let Some(first) = how.first {
            let start = self.ids.len().saturating_sub(how.last);
            let rest = &self.ids[start..];
            let missing = how.last - rest.len();
            let ends = |values: &[i64], value: i64| {
                let mut kept = values.to_vec();
                fit(&mut kept, first, value);
                // The end is at the end, its padding before it.
                kept.extend(std::iter::repeat_n(value, if how.shorter { 0 } else { missing }));
                kept.extend(&values[start..]);
                kept
            };
            return Ok(Tokens {
                ids: ends(&self.ids, pad),
                types: ends(&self.types, 0),
                mask: ends(&self.mask, 0),
                end: None,
            });
        }
        let size = how.size.unwrap_or(self.ids.len());
        if let Some(end) = self.end.filter(|_| self.ids.len() > size) {
            let last = size.checked_sub(1).ok_or_else(|| Error::invalid("a length of 0"))?;
            self.ids[last] = end;
        }
        fit(&mut self.ids, size, pad);
        fit(&mut self.types, size, 0);
        fit(&mut self.mask, size, 0);
        Ok(self)
    }
}

/// Makes tokens of characters.
#[derive(Debug, Clone)]
pub struct Characters {
    vocabulary: Vocabulary,
    unknown: Option<i64>,
    lowercase: bool,
}

impl Characters {
    /// Reads the vocabulary, relative to `folder`.
    ///
    /// # Errors
    /// When it cannot be read, or lacks the token for unknown characters.
    pub fn open(how: &schema::Characters, folder: &Path) -> Result<Characters> {
        let path = folder.join(&how.vocabulary);
        let vocabulary = Vocabulary::open(&path)?;
        let unknown = how.unknown.as_ref().map(|token| vocabulary.need(token, &path)).transpose()?;
        Ok(Characters { vocabulary, unknown, lowercase: how.lowercase })
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When a character is not in the vocabulary, and there is no token for unknown ones.
    pub fn tokens(&self, text: &str) -> Result<Tokens> {
        let lower;
        let text = if self.lowercase {
            lower = text.to_lowercase();
            &lower
        } else {
            text
        };
        let mut buffer = [0; 4];
        let mut number = |c: char| {
            let known = self.vocabulary.0.get(&*c.encode_utf8(&mut buffer)).copied().or(self.unknown);
            known.ok_or_else(|| {
                Error::invalid(format!("the vocabulary has no character {c:?}"))
                    .help("name one of its lines for others: unknown = \"...\"")
            })
        };
        Ok(Tokens::of(text.chars().map(&mut number).collect::<Result<_>>()?))
    }
}

/// Makes BERT's tokens (Devlin et al. 2018): words, and the longest known parts of words.
#[derive(Debug, Clone)]
pub struct Wordpiece {
    vocabulary: Vocabulary,
    lowercase: bool,
    separator: Option<String>,
    unknown: i64,
    start: i64,
    end: i64,
}

/// Characters of a word beyond which it is unknown, as in BERT's own code.
const LONGEST_WORD: usize = 100;

impl Wordpiece {
    /// Reads the vocabulary, relative to `folder`.
    ///
    /// # Errors
    /// When it cannot be read, or lacks one of the special tokens.
    pub fn open(how: &schema::Wordpiece, folder: &Path) -> Result<Wordpiece> {
        let path = folder.join(&how.vocabulary);
        let vocabulary = Vocabulary::open(&path)?;
        let need = |token: &str| vocabulary.need(token, &path);
        let (unknown, start, end) = (need(&how.unknown)?, need(&how.start)?, need(&how.end)?);
        let (lowercase, separator) = (how.lowercase, how.separator.clone());
        Ok(Wordpiece { vocabulary, lowercase, separator, unknown, start, end })
    }

    /// The tokens of a text, or of a pair of texts.
    pub fn tokens(&self, text: &str) -> Tokens {
        let parts: Vec<&str> = match &self.separator {
            Some(separator) => text.splitn(2, separator.as_str()).collect(),
            None => vec![text],
        };
        let mut tokens = Tokens::of(vec![self.start]);
        for (n, part) in parts.into_iter().enumerate() {
            for word in words(part, self.lowercase) {
                self.pieces(&word, &mut tokens.ids);
            }
            tokens.ids.push(self.end);
            tokens.types.resize(tokens.ids.len(), n as i64);
        }
        tokens.mask.resize(tokens.ids.len(), 1);
        tokens.end = Some(self.end);
        tokens
    }

    /// The longest known beginning of a word, then that of the rest after `##`, and so on.
    fn pieces(&self, word: &str, ids: &mut Vec<i64>) {
        let before = ids.len();
        let mut rest = if word.chars().count() > LONGEST_WORD { "" } else { word };
        while !rest.is_empty() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).collect::<Vec<_>>();
            let known = |&end: &usize| {
                let piece =
                    if rest.len() < word.len() { format!("##{}", &rest[..end]) } else { rest[..end].to_string() };
                Some((end, *self.vocabulary.0.get(&piece)?))
            };
            match ends.iter().rev().find_map(known) {
                Some((end, id)) => {
                    ids.push(id);
                    rest = &rest[end..];
                }
                None => {
                    ids.truncate(before);
                    break;
                }
            }
        }
        if ids.len() == before {
            ids.push(self.unknown);
        }
    }
}

/// Words and punctuation marks. Ideographs are words of their own.
fn words(text: &str, lowercase: bool) -> Vec<String> {
    let text: String = match lowercase {
        true => text.to_lowercase().nfd().filter(|&c| !is_combining_mark(c)).collect(),
        false => text.to_string(),
    };
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in text.chars() {
        let alone = is_punctuation(c) || is_ideograph(c);
        if (c.is_whitespace() || alone) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        match () {
            () if alone => words.push(c.to_string()),
            () if c.is_whitespace() || c == '\0' || c == '\u{fffd}' || c.is_control() => {}
            () => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    words
}

/// ASCII's marks, and those of the blocks of punctuation and of CJK.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c, '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}')
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}')
        || matches!(c, '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(text: &str) -> Vocabulary {
        Vocabulary(Arc::new(text.split_whitespace().enumerate().map(|(n, t)| (t.to_string(), n as i64)).collect()))
    }

    fn wordpiece(separator: Option<&str>) -> Wordpiece {
        Wordpiece {
            vocabulary: vocabulary("[UNK] [CLS] [SEP] un ##aff ##able runn ##ing , cafe 中 !"),
            lowercase: true,
            separator: separator.map(str::to_string),
            unknown: 0,
            start: 1,
            end: 2,
        }
    }

    #[test]
    fn words_are_the_longest_known_pieces() {
        let ids = |text: &str| wordpiece(None).tokens(text).ids;
        assert_eq!(ids("Unaffable, RUNNING"), [1, 3, 4, 5, 8, 6, 7, 2]);
        assert_eq!(ids("Caf\u{e9}中中!"), [1, 9, 10, 10, 11, 2]);
        assert_eq!(ids("unx running"), [1, 0, 6, 7, 2]);
        assert_eq!(ids(&"un".repeat(60)), [1, 0, 2]);
        assert_eq!(ids(""), [1, 2]);
    }

    #[test]
    fn pairs_have_types_and_cuts_keep_the_end() {
        let tokens = wordpiece(Some("\t")).tokens("cafe\trunning");
        assert_eq!(
            (tokens.ids.as_slice(), tokens.types.as_slice()),
            ([1, 9, 2, 6, 7, 2].as_slice(), [0, 0, 0, 1, 1, 1].as_slice())
        );
        let cut = tokens.clone().length(&Length { size: Some(4), ..Length::default() }).unwrap();
        assert_eq!((cut.ids, cut.types, cut.mask), (vec![1, 9, 2, 2], vec![0, 0, 0, 1], vec![1; 4]));
        let padded = tokens.length(&Length { size: Some(8), pad: 9.0, ..Length::default() }).unwrap();
        assert_eq!((&padded.ids[6..], &padded.mask[5..]), (&[9, 9][..], &[1, 0, 0][..]));
    }

    #[test]
    fn beginnings_and_ends() {
        let how = Length { first: Some(3), last: 2, pad: 256.0, ..Length::default() };
        let ids = |bytes: &[u8]| Tokens::bytes(bytes).length(&how).unwrap().ids;
        assert_eq!(ids(&[1, 2, 3, 4, 5, 6]), [1, 2, 3, 5, 6]);
        assert_eq!(ids(&[1]), [1, 256, 256, 256, 1]);
        assert_eq!(ids(&[]), [256; 5]);
        let shorter = Length { size: Some(3), shorter: true, ..Length::default() };
        assert_eq!(Tokens::bytes(&[1, 2]).length(&shorter).unwrap().ids, [1, 2]);
    }

    #[test]
    fn characters_are_lines() {
        let mut c = Characters { vocabulary: vocabulary("a b ?"), unknown: None, lowercase: true };
        assert_eq!(c.tokens("aBa").unwrap().ids, [0, 1, 0]);
        assert!(c.tokens("c").unwrap_err().to_string().contains("'c'"));
        c.unknown = Some(2);
        assert_eq!(c.tokens("c").unwrap().ids, [2]);
    }
}
