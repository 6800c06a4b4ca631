//! One error type for the whole compiler; its variants say whose fault it is.

use std::fmt;

/// The compiler's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error, by whose fault it is. The command line maps the variants to exit codes.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The model or its data is malformed or contradicts itself (exit code 1).
    #[error("{0}")]
    InvalidModel(Report),
    /// The model is valid, but needs something that mcc does not support (exit code 1).
    #[error("{0}")]
    Unsupported(Report),
    /// A file could not be read or written (exit code 1).
    #[error("{0}")]
    Io(Report),
    /// The caller's options are invalid (exit code 2).
    #[error("{0}")]
    Usage(Report),
    /// A broken invariant of the compiler itself (exit code 3).
    #[error("internal error: {0}")]
    Internal(Report),
}

/// A message, its context (innermost first), and a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The fault.
    pub message: String,
    /// Where: node, operator, file; innermost first.
    pub context: Vec<String>,
    /// The remedy.
    pub help: Option<String>,
    /// Further blockers, found in the same run.
    pub also: Vec<Report>,
}

impl From<String> for Report {
    fn from(message: String) -> Self {
        Report { message, context: Vec::new(), help: None, also: Vec::new() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for place in &self.context {
            write!(f, "\n  in {place}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        for other in &self.also {
            write!(f, "\n{other}")?;
        }
        Ok(())
    }
}

impl Error {
    /// The model is at fault.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::InvalidModel(message.into().into())
    }

    /// The model needs something that is not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::Unsupported(message.into().into())
    }

    /// A file could not be read or written.
    pub fn io(path: impl fmt::Display, error: &std::io::Error) -> Self {
        Error::Io(format!("{path}: {error}").into())
    }

    /// The options are invalid.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into().into())
    }

    /// The compiler is at fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal(message.into().into())
    }

    /// Adds context around the existing one.
    pub fn within(mut self, place: impl Into<String>) -> Self {
        self.report_mut().context.push(place.into());
        self
    }

    /// Adds a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.report_mut().help = Some(help.into());
        self
    }

    /// One error that reports all of `errors`; `None` if there are none. It has the most severe kind.
    pub fn all(errors: Vec<Error>) -> Option<Error> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        for other in errors {
            let graver = other.exit_code() > first.exit_code();
            let (mut head, tail) = if graver { (other, first) } else { (first, other) };
            head.report_mut().also.push(tail.report().clone());
            first = head;
        }
        Some(first)
    }

    /// The message with its context.
    pub fn report(&self) -> &Report {
        match self {
            Error::InvalidModel(r) | Error::Unsupported(r) | Error::Io(r) | Error::Usage(r) | Error::Internal(r) => r,
        }
    }

    /// The process's exit code for this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::InvalidModel(_) | Error::Unsupported(_) | Error::Io(_) => 1,
            Error::Usage(_) => 2,
            Error::Internal(_) => 3,
        }
    }

    fn report_mut(&mut self) -> &mut Report {
        match self {
            Error::InvalidModel(r) | Error::Unsupported(r) | Error::Io(r) | Error::Usage(r) | Error::Internal(r) => r,
        }
    }
}
