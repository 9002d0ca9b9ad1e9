//! One error type across crates: what failed, where, why, and what to do next.
//!
//! Inside a crate `thiserror` enums are free to be fine-grained; what crosses a crate boundary is this type with one of
//! few [`Kind`]s, because a caller decides by kind (retry, stop, report) and a person reads the rest.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Shorthand used by every contract in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error. Maps to exit codes here and to gRPC and HTTP codes in `proto` and `router`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The manifest, the data or the command line is wrong: repeating it cannot help.
    BadInput,
    /// A system outside cannot be reached or answered "later": repeating it may help.
    Unavailable,
    /// Somebody else holds the right to do this now (a newer incarnation, a ledger ahead of ours).
    Fenced,
    /// Bytes that we wrote are not what we read: never repaired silently.
    Corrupt,
    /// A limit (disk, memory, file size, nesting) was reached.
    Exhausted,
    /// The run failed for a reason that is none of the above.
    Runtime,
}

impl Kind {
    /// Exit code of a process that ends with an error of this kind: 1 runtime, 2 bad input or usage, 3 unreachable.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::BadInput => 2,
            Kind::Unavailable => 3,
            Kind::Fenced | Kind::Corrupt | Kind::Exhausted | Kind::Runtime => 1,
        }
    }
}

/// Where something went wrong, outermost first; only what is known is filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `namespace/name` of the pipeline.
    pub pipeline: Option<String>,
    /// Name of the source, step, lookup or sink.
    pub object: Option<String>,
    /// File, URL or split.
    pub split: Option<String>,
    /// Byte offset, row number or line within the split, as text with its unit.
    pub position: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("pipeline", &self.pipeline),
            ("at", &self.object),
            ("in", &self.split),
            ("position", &self.position),
        ];
        let mut first = true;
        for (word, value) in parts {
            if let Some(value) = value {
                if !first {
                    f.write_str(", ")?;
                }
                write!(f, "{word} {value}")?;
                first = false;
            }
        }
        Ok(())
    }
}

/// An error with everything a person needs: stable code, sentence, place, cause, next step.
///
/// Boxed, so that a `Result` stays one pointer wide on hot paths.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    code: &'static str,
    message: String,
    place: Place,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    help: Option<String>,
}

impl Error {
    /// A new error. `code` is stable and kebab-case (`file-not-found`); `message` says what failed in one sentence.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            code,
            message: message.into(),
            place: Place::default(),
            cause: None,
            help: None,
        }))
    }

    /// Short for [`Kind::BadInput`].
    pub fn bad_input(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, code, message)
    }

    /// Short for [`Kind::Runtime`].
    pub fn runtime(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Runtime, code, message)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds what the reader can do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Names the pipeline, unless a deeper layer already did.
    #[must_use]
    pub fn in_pipeline(mut self, pipeline: impl fmt::Display) -> Self {
        self.0.place.pipeline.get_or_insert_with(|| pipeline.to_string());
        self
    }

    /// Names the source, step or sink, unless a deeper layer already did.
    #[must_use]
    pub fn at(mut self, object: impl fmt::Display) -> Self {
        self.0.place.object.get_or_insert_with(|| object.to_string());
        self
    }

    /// Names the file, URL or split, unless a deeper layer already did.
    #[must_use]
    pub fn in_split(mut self, split: impl fmt::Display) -> Self {
        self.0.place.split.get_or_insert_with(|| split.to_string());
        self
    }

    /// Names the position, unless a deeper layer already did.
    #[must_use]
    pub fn at_position(mut self, position: impl fmt::Display) -> Self {
        self.0.place.position.get_or_insert_with(|| position.to_string());
        self
    }

    /// An error as another process reported it. Codes are a small fixed set; one that is not short kebab-case, or comes after
    /// [`MAX_CODES`] others, is shown in the message instead.
    pub fn reported(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        match intern(code) {
            Some(code) => Self::new(kind, code, message),
            None => Self::new(kind, "reported", format!("{} ({code:.64})", message.into())),
        }
    }

    /// The error that caused this one, with its own causes, as text.
    pub fn cause_text(&self) -> Option<String> {
        let mut text = String::new();
        self.write_causes(&mut text).ok()?;
        (!text.is_empty()).then(|| text[2..].to_owned())
    }

    fn write_causes(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let mut cause: Option<&dyn StdError> = self.0.cause.as_ref().map(|c| &**c as &dyn StdError);
        while let Some(c) = cause {
            write!(f, ": {c}")?;
            // Our own errors print their causes themselves.
            cause = if c.is::<Error>() { None } else { c.source() };
        }
        Ok(())
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The sentence, without place, cause and help.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What to do next, if anything is known.
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        let place = self.0.place.to_string();
        if !place.is_empty() {
            write!(f, " ({place})")?;
        }
        self.write_causes(f)?;
        write!(f, " [{}]", self.0.code)?;
        if let Some(help) = &self.0.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Most codes that are taken over from other processes.
pub const MAX_CODES: usize = 1024;

/// A code of another process as one of ours: kept for the life of the process, so their number is bounded.
fn intern(code: &str) -> Option<&'static str> {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let fits = !code.is_empty()
        && code.len() <= 64
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    // Nothing in here can panic while the lock is held, so it cannot be poisoned.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(code) {
        return Some(known);
    }
    if !fits || known.len() >= MAX_CODES {
        return None;
    }
    let kept: &'static str = Box::leak(code.to_owned().into_boxed_str());
    known.insert(kept);
    Some(kept)
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // `Display` prints the chain; handing it out again would print it twice.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_what_next() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = Error::bad_input("file-not-found", "the source file cannot be opened")
            .because(io)
            .at("flights")
            .in_split("data/a.csv")
            .help("check `path`");
        assert_eq!(
            error.to_string(),
            "the source file cannot be opened (at flights, in data/a.csv): no such file [file-not-found]; check `path`"
        );
        assert_eq!(error.kind().exit_code(), 2);
        assert_eq!(error.cause_text().as_deref(), Some("no such file"));
    }

    #[test]
    fn a_code_from_elsewhere_is_kept_if_it_is_one() {
        let error = Error::reported(Kind::Runtime, &String::from("far-away"), "it broke");
        assert_eq!((error.code(), error.message()), ("far-away", "it broke"));
        let strange = Error::reported(Kind::Runtime, "No Code\n", "it broke");
        assert_eq!(strange.code(), "reported");
        assert!(strange.message().contains("No Code"));
    }
}
