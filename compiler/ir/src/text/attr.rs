//! Attributes' values in the text form.

use crate::{
    Activation, BinaryOp, Cell, CoordinateMode, CumulativeKind, DType, Dim, F64, Filters, Layout, LowBit, NearestMode,
    PadMode, PoolKind, Range, ReduceKind, SampleMode, SamplePadding, ScatterReduction, TreeEdge, TreeNode, UnaryOp,
};
use crate::{Error, Result};

/// A type whose values are written as one piece of text: commas occur only in brackets or quotes.
pub(super) trait Attr: Sized {
    fn show(&self) -> String;
    fn read(text: &str) -> Result<Self>;
}

fn malformed(text: &str, what: &str) -> Error {
    Error::invalid(format!("`{text}` is not a valid {what}"))
}

/// Splits text at commas outside of brackets and quotes, and trims the pieces.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, ",") {
        pieces.push(rest[..at].trim());
        rest = &rest[at + 1..];
    }
    pieces.push(rest.trim());
    pieces
}

/// The first position of `wanted` outside of brackets and quotes.
pub(super) fn find(text: &str, wanted: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, _) if depth == 0 && text[i..].starts_with(wanted) => return Some(i),
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}

/// The text between an opening and a closing bracket.
pub(super) fn inside(text: &str, open: char, close: char) -> Result<&str> {
    let inner = text.trim().strip_prefix(open).and_then(|t| t.strip_suffix(close));
    inner.ok_or_else(|| malformed(text, &format!("text in {open}{close}")))
}

/// A word and its arguments in parentheses.
fn call(text: &str) -> Result<(&str, Vec<&str>)> {
    match text.find('(') {
        Some(at) => Ok((text[..at].trim(), pieces(inside(&text[at..], '(', ')')?))),
        None => Ok((text.trim(), Vec::new())),
    }
}

/// Implements [`Attr`] through `Display` and `FromStr`.
macro_rules! plain {
    ($($ty:ty, $what:literal;)*) => {
        $(impl Attr for $ty {
            fn show(&self) -> String {
                self.to_string()
            }
            fn read(text: &str) -> Result<Self> {
                text.parse().map_err(|_| malformed(text, $what))
            }
        })*
    };
}

plain! {
    usize, "size";
    i64, "integer";
    u32, "number";
    bool, "boolean";
}

/// Implements [`Attr`] for an enum, with one word per variant.
macro_rules! words {
    ($($ty:ty, $what:literal { $($variant:pat => $value:expr, $word:literal;)* })*) => {
        $(impl Attr for $ty {
            fn show(&self) -> String {
                match self { $($variant => $word,)* }.to_string()
            }
            fn read(text: &str) -> Result<Self> {
                match text { $($word => Ok($value),)* _ => Err(malformed(text, $what)) }
            }
        })*
    };
}

/// The words of an enum without fields.
#[cfg(test)]
pub(crate) trait Words {
    const WORDS: &[&str];
}

/// [`words!`] for variants without fields.
macro_rules! simple_words {
    ($($ty:ident, $what:literal { $($variant:ident $word:literal)* })*) => {
        words! { $($ty, $what { $($ty::$variant => $ty::$variant, $word;)* })* }
        $(#[cfg(test)]
        impl Words for $ty {
            const WORDS: &[&str] = &[$($word),*];
        })*
    };
}

simple_words! {
    UnaryOp, "element-wise function" {
        Neg "neg" Abs "abs" Sign "sign" Floor "floor" Ceil "ceil" Round "round" Sqrt "sqrt" Reciprocal "reciprocal"
        Exp "exp" Log "log" Sin "sin" Cos "cos" Tan "tan" Asin "asin" Acos "acos" Atan "atan" Sinh "sinh"
        Cosh "cosh" Tanh "tanh" Asinh "asinh" Acosh "acosh" Atanh "atanh" Erf "erf" Gelu "gelu" Sigmoid "sigmoid"
        Softplus "softplus" Not "not" BitNot "bit_not" IsNan "is_nan" IsInf "is_inf"
    }
    BinaryOp, "element-wise function" {
        Add "add" Sub "sub" Mul "mul" Div "div" Pow "pow" Min "min" Max "max" Mod "mod" Rem "rem" And "and" Or "or"
        Xor "xor" ShiftLeft "shift_left" ShiftRight "shift_right" Equal "equal" Less "less"
        LessOrEqual "less_or_equal" Greater "greater" GreaterOrEqual "greater_or_equal"
    }
    PadMode, "padding mode" { Constant "constant" Edge "edge" Reflect "reflect" Wrap "wrap" }
    ScatterReduction, "scatter reduction" { None "none" Add "add" Mul "mul" Max "max" Min "min" }
    Layout, "layout" { ChannelsFirst "channels_first" ChannelsLast "channels_last" }
    ReduceKind, "reduction" { Sum "sum" Mean "mean" Prod "prod" Min "min" Max "max" }
    CumulativeKind, "running reduction" { Sum "sum" Prod "prod" }
    SampleMode, "interpolation" { Nearest "nearest" Linear "linear" Cubic "cubic" }
    SamplePadding, "padding" { Zeros "zeros" Border "border" Reflection "reflection" }
    NearestMode, "rounding" {
        RoundPreferFloor "round_prefer_floor" RoundPreferCeil "round_prefer_ceil" Floor "floor" Ceil "ceil"
        Simple "simple"
    }
    CoordinateMode, "coordinate mode" {
        HalfPixel "half_pixel" HalfPixelSymmetric "half_pixel_symmetric" PytorchHalfPixel "pytorch_half_pixel"
        TfHalfPixel "tf_half_pixel"
        AlignCorners "align_corners" Asymmetric "asymmetric" TfCropAndResize "tf_crop_and_resize"
    }
}

words! {
    Cell, "recurrence" {
        Cell::Rnn => Cell::Rnn, "rnn";
        Cell::Lstm => Cell::Lstm, "lstm";
        Cell::Gru { linear_before_reset: false } => Cell::Gru { linear_before_reset: false }, "gru";
        Cell::Gru { linear_before_reset: true } => Cell::Gru { linear_before_reset: true }, "gru_linear_before_reset";
    }
}

impl Attr for DType {
    fn show(&self) -> String {
        self.name().to_string()
    }

    fn read(text: &str) -> Result<DType> {
        DType::from_name(text).ok_or_else(|| malformed(text, "element type"))
    }
}

impl Attr for F64 {
    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn read(text: &str) -> Result<F64> {
        text.parse::<f64>().map(F64::from).map_err(|_| malformed(text, "number"))
    }
}

impl Attr for Dim {
    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Result<Dim> {
        text.parse()
    }
}

/// Strings are in double quotes, escaped as in Rust.
impl Attr for String {
    fn show(&self) -> String {
        format!("\"{}\"", escape(self, '"'))
    }

    fn read(text: &str) -> Result<String> {
        unescape(inside(text, '"', '"')?)
    }
}

/// Escapes backslashes, newlines and `quote` with backslashes.
pub fn escape(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// The inverse of [`escape`].
pub fn unescape(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(c) => out.push(c),
                None => return Err(malformed(text, "string: it ends in a backslash")),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

impl<T: Attr> Attr for Vec<T> {
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }

    fn read(text: &str) -> Result<Vec<T>> {
        pieces(inside(text, '[', ']')?).into_iter().map(T::read).collect()
    }
}

impl<T: Attr, const N: usize> Attr for [T; N] {
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }

    fn read(text: &str) -> Result<[T; N]> {
        let list = Vec::<T>::read(text)?;
        list.try_into().map_err(|_| malformed(text, &format!("list of {N}")))
    }
}

impl<A: Attr, B: Attr> Attr for (A, B) {
    fn show(&self) -> String {
        format!("({}, {})", self.0.show(), self.1.show())
    }

    fn read(text: &str) -> Result<(A, B)> {
        match pieces(inside(text, '(', ')')?).as_slice() {
            [a, b] => Ok((A::read(a)?, B::read(b)?)),
            _ => Err(malformed(text, "pair")),
        }
    }
}

impl<T: Attr> Attr for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_string(), T::show)
    }

    fn read(text: &str) -> Result<Option<T>> {
        if text == "none" { Ok(None) } else { T::read(text).map(Some) }
    }
}

/// `start:len` or `start:len:step`.
impl Attr for Range {
    fn show(&self) -> String {
        match self.step {
            1 => format!("{}:{}", self.start, self.len),
            step => format!("{}:{}:{step}", self.start, self.len),
        }
    }

    fn read(text: &str) -> Result<Range> {
        let Some(at) = find(text, ":") else { return Err(malformed(text, "range `start:len`")) };
        let (start, rest) = (&text[..at], &text[at + 1..]);
        let (len, step) = match find(rest, ":") {
            Some(at) => (&rest[..at], i64::read(&rest[at + 1..])?),
            None => (rest, 1),
        };
        Ok(Range { start: Dim::read(start)?, len: Dim::read(len)?, step })
    }
}

/// The bits and elements per block.
impl Attr for LowBit {
    fn show(&self) -> String {
        format!("coded({}, {})", self.bits, self.block)
    }

    fn read(text: &str) -> Result<LowBit> {
        match call(text)? {
            ("coded", args) if args.len() == 2 => {
                Ok(LowBit { bits: u32::read(args[0])?, block: usize::read(args[1])? })
            }
            _ => Err(malformed(text, "codes")),
        }
    }
}

impl Attr for Filters {
    fn show(&self) -> String {
        match self {
            Filters::Transformed => "transformed".to_string(),
            Filters::Plain => "plain".to_string(),
            Filters::LowBit(coded) => coded.show(),
        }
    }

    fn read(text: &str) -> Result<Filters> {
        match call(text)? {
            ("transformed", args) if args.is_empty() => Ok(Filters::Transformed),
            ("plain", args) if args.is_empty() => Ok(Filters::Plain),
            ("coded", _) => LowBit::read(text).map(Filters::LowBit),
            _ => Err(malformed(text, "form of filters")),
        }
    }
}

impl Attr for PoolKind {
    fn show(&self) -> String {
        match self {
            PoolKind::Max => "max".to_string(),
            PoolKind::Average { include_pad: false } => "average".to_string(),
            PoolKind::Average { include_pad: true } => "average_with_padding".to_string(),
            PoolKind::Lp { p } => format!("lp({p})"),
        }
    }

    fn read(text: &str) -> Result<PoolKind> {
        Ok(match call(text)? {
            ("max", args) if args.is_empty() => PoolKind::Max,
            ("average", args) if args.is_empty() => PoolKind::Average { include_pad: false },
            ("average_with_padding", args) if args.is_empty() => PoolKind::Average { include_pad: true },
            ("lp", args) if args.len() == 1 => PoolKind::Lp { p: u32::read(args[0])? },
            _ => return Err(malformed(text, "kind of pooling")),
        })
    }
}

impl Attr for Activation {
    fn show(&self) -> String {
        use Activation::*;
        match self {
            Sigmoid => "sigmoid".to_string(),
            Tanh => "tanh".to_string(),
            Relu => "relu".to_string(),
            LeakyRelu { alpha } => format!("leaky_relu({alpha:?})"),
            ThresholdedRelu { alpha } => format!("thresholded_relu({alpha:?})"),
            ScaledTanh { alpha, beta } => format!("scaled_tanh({alpha:?}, {beta:?})"),
            HardSigmoid { alpha, beta } => format!("hard_sigmoid({alpha:?}, {beta:?})"),
            Elu { alpha } => format!("elu({alpha:?})"),
            Affine { alpha, beta } => format!("affine({alpha:?}, {beta:?})"),
            Softsign => "softsign".to_string(),
            Softplus => "softplus".to_string(),
        }
    }

    fn read(text: &str) -> Result<Activation> {
        use Activation::*;
        let (name, args) = call(text)?;
        let numbers = args.into_iter().map(F64::read).collect::<Result<Vec<F64>>>()?;
        Ok(match (name, numbers.as_slice()) {
            ("sigmoid", []) => Sigmoid,
            ("tanh", []) => Tanh,
            ("relu", []) => Relu,
            ("leaky_relu", &[alpha]) => LeakyRelu { alpha },
            ("thresholded_relu", &[alpha]) => ThresholdedRelu { alpha },
            ("scaled_tanh", &[alpha, beta]) => ScaledTanh { alpha, beta },
            ("hard_sigmoid", &[alpha, beta]) => HardSigmoid { alpha, beta },
            ("elu", &[alpha]) => Elu { alpha },
            ("affine", &[alpha, beta]) => Affine { alpha, beta },
            ("softsign", []) => Softsign,
            ("softplus", []) => Softplus,
            _ => return Err(malformed(text, "activation")),
        })
    }
}

impl Attr for TreeEdge {
    fn show(&self) -> String {
        match self {
            TreeEdge::Node(n) => format!("node({n})"),
            TreeEdge::Leaf(first, count) => format!("leaf({first}, {count})"),
        }
    }

    fn read(text: &str) -> Result<TreeEdge> {
        Ok(match call(text)? {
            ("node", args) if args.len() == 1 => TreeEdge::Node(u32::read(args[0])?),
            ("leaf", args) if args.len() == 2 => TreeEdge::Leaf(u32::read(args[0])?, u32::read(args[1])?),
            _ => return Err(malformed(text, "tree edge")),
        })
    }
}

/// `(feature, test, value, missing_is_true, yes, no)`.
impl Attr for TreeNode {
    fn show(&self) -> String {
        let TreeNode { feature, test, value, missing_is_true, yes, no } = self;
        let (test, yes, no) = (test.show(), yes.show(), no.show());
        format!("({feature}, {test}, {value:?}, {missing_is_true}, {yes}, {no})")
    }

    fn read(text: &str) -> Result<TreeNode> {
        let [feature, test, value, missing, yes, no] = pieces(inside(text, '(', ')')?)[..] else {
            return Err(malformed(text, "decision of six parts"));
        };
        Ok(TreeNode {
            feature: u32::read(feature)?,
            test: BinaryOp::read(test)?,
            value: F64::read(value)?,
            missing_is_true: bool::read(missing)?,
            yes: TreeEdge::read(yes)?,
            no: TreeEdge::read(no)?,
        })
    }
}
