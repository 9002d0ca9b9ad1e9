//! What the planner says about a manifest: one finding with its place, shown the way a compiler shows it.

use std::fmt;
use std::sync::Arc;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is planned.
    Error,
    /// Planned all the same, but worth a look.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable and kebab-case: `unknown-column`, `duplicate-key`.
    pub code: &'static str,
    /// One sentence: what is wrong.
    pub message: String,
    /// The document's name as given to [`crate::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub length: usize,
    /// The field: `spec.steps[2].lookup.on`. Empty for the document as a whole.
    pub path: String,
    /// The line of the manifest, where there is one.
    pub snippet: Option<String>,
    /// What to do, or the nearest valid name.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}[{}]: {}", self.code, self.message)?;
        write!(f, "\n --> {}:{}:{}", self.file, self.line, self.column)?;
        if let Some(snippet) = &self.snippet {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let space = " ".repeat(self.column.saturating_sub(1));
            let marks = "^".repeat(self.length.max(1));
            write!(f, "\n {margin} |\n {number} | {snippet}\n {margin} | {space}{marks}")?;
        }
        if !self.path.is_empty() {
            write!(f, "\n  = path: {}", self.path)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

/// Longest piece of a key that a path shows; keys come from the user and may be of any length.
const KEY_SHOWN: usize = 64;
/// Longest manifest line that a snippet shows, in characters.
const SNIPPET_SHOWN: usize = 200;
/// Most findings reported: a file that is wrong in every line is not made clearer by more.
const MOST: usize = 200;

/// The field that a node stands in. Shares its parents, so that deep documents stay linear in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path(Option<Arc<Segment>>);

#[derive(Debug)]
struct Segment {
    parent: Path,
    step: PathStep,
}

#[derive(Debug)]
enum PathStep {
    Key(String),
    Index(usize),
}

impl Path {
    pub(crate) fn key(&self, key: &str) -> Path {
        let key = key.chars().take(KEY_SHOWN).collect();
        Path(Some(Arc::new(Segment { parent: self.clone(), step: PathStep::Key(key) })))
    }

    pub(crate) fn index(&self, index: usize) -> Path {
        Path(Some(Arc::new(Segment { parent: self.clone(), step: PathStep::Index(index) })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(segment) = &self.0 else { return Ok(()) };
        segment.parent.fmt(f)?;
        match &segment.step {
            PathStep::Key(key) if segment.parent.0.is_none() => f.write_str(key),
            PathStep::Key(key) => write!(f, ".{key}"),
            PathStep::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A place in a document.
#[derive(Debug, Clone, Default)]
pub(crate) struct At {
    /// Index of the document.
    pub(crate) file: usize,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// In characters.
    pub(crate) length: usize,
    pub(crate) path: Path,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: At,
}

/// A line with user names and passwords of its URLs painted over, as wide as before.
fn masked(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let host = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"');
        let (authority, behind) = after.split_at(host.unwrap_or(after.len()));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
        // `abfs` has the container there.
        let container = before.ends_with("abfs") || before.ends_with("abfss");
        if let Some(user) = user.filter(|user| container && !user.contains(':')) {
            shown.push_str(user);
            shown.push('@');
        } else if let Some(user) = user {
            shown.extend(user.chars().map(|_| '*'));
            shown.push('@');
        }
        shown.push_str(host);
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// Name and lines of the documents, for snippets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(pub(crate) Arc<Vec<crate::Document>>);

impl Files {
    fn line(&self, at: &At) -> Option<&str> {
        self.0.get(at.file)?.text.lines().nth(at.line.checked_sub(1)?)
    }

    /// The place of `length` bytes at byte `offset` of a scalar's text, when the scalar stands in one piece on its line.
    pub(crate) fn within(&self, at: &At, text: &str, offset: usize) -> At {
        let Some(line) = self.line(at) else { return at.clone() };
        let start: String = line.chars().skip(at.column.saturating_sub(1)).collect();
        let quote = usize::from(start.starts_with(['"', '\'']));
        if !start.get(quote..).is_some_and(|s| s.starts_with(text)) || !text.is_char_boundary(offset) {
            return at.clone();
        }
        let before = text[..offset].chars().count();
        let word = text[offset..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').count();
        At { column: at.column + quote + before, length: word.max(1), ..at.clone() }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    files: Files,
    list: Vec<Diagnostic>,
    errors: usize,
}

impl Diagnostics {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, list: Vec::new(), errors: 0 }
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Number of errors so far: whoever compares it before and after knows whether a part was in order.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn error(&mut self, code: &'static str, at: &At, message: impl Into<String>) {
        self.push(Severity::Error, code, at, message.into(), None);
    }

    pub(crate) fn error_help(
        &mut self,
        code: &'static str,
        at: &At,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.push(Severity::Error, code, at, message.into(), help.into());
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        at: &At,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.push(Severity::Warning, code, at, message.into(), help.into());
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: &At,
        message: String,
        help: Option<String>,
    ) {
        if severity == Severity::Error {
            self.errors += 1;
        }
        if self.list.len() >= MOST {
            return;
        }
        let file = self.files.0.get(at.file).map_or_else(|| "-".to_owned(), |d| d.name.clone());
        let line = self.files.line(at);
        let snippet =
            line.filter(|l| l.chars().count() <= SNIPPET_SHOWN).map(|l| masked(&l.replace('\t', " ")));
        let rest =
            snippet.as_ref().map_or(1, |s| s.chars().count().saturating_sub(at.column - at.column.min(1)));
        self.list.push(Diagnostic {
            severity,
            code,
            message: harmless(&message),
            file: harmless(&file),
            line: at.line.max(1),
            column: at.column.max(1),
            length: at.length.min(rest).max(1),
            path: harmless(&at.path.to_string()),
            snippet: snippet.map(|line| harmless(&line)),
            help: help.map(|help| harmless(&help)),
        });
    }

    /// All findings, in the order of the documents.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let order = |d: &Diagnostic| self.files.0.iter().position(|f| harmless(&f.name) == d.file);
        self.list.sort_by_cached_key(|d| (order(d), d.line, d.column));
        // A Transform that is used twice has its mistakes once.
        self.list.dedup();
        if self.errors > MOST {
            let more = self.errors - MOST;
            if let Some(last) = self.list.last_mut() {
                let note = format!("{more} more errors are not shown; mend these first");
                last.help = Some(last.help.take().map_or(note.clone(), |h| format!("{h}; {note}")));
            }
        }
        self.list
    }
}

/// Text from a manifest as it may be shown: without what would steer a terminal, and without the user and password of
/// a URL. Each character stays one character, so that places within a line stay the same.
fn harmless(text: &str) -> String {
    let mut shown: Vec<char> = text.chars().map(picture).collect();
    let mut from = 0;
    while let Some(at) = shown[from..].windows(3).position(|w| w == [':', '/', '/']) {
        let start = from + at + 3;
        let ends = |c: &char| c.is_whitespace() || "/\"'`,}]".contains(*c);
        let end = shown[start..].iter().position(ends).map_or(shown.len(), |length| start + length);
        let scheme: String =
            shown[..start - 3].iter().rev().take_while(|c| c.is_ascii_alphanumeric()).collect();
        // `abfs://container@account` holds no secret; the scheme was collected from its end.
        let container = scheme.ends_with("sfba") && !shown[start..end].contains(&':');
        if let Some(user) = shown[start..end].iter().rposition(|c| *c == '@')
            && !container
        {
            shown[start..start + user].fill('*');
        }
        from = start;
    }
    shown.into_iter().collect()
}

/// A control character as its picture.
fn picture(c: char) -> char {
    match c {
        '\n' => '\n',
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        // What turns the direction of writing, or is not seen at all.
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        other => other,
    }
}

/// Help text that names the nearest valid name, or lists them where they are few.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(near) = conveyor_expr::nearest(name, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<_> = known.into_iter().take(21).map(|k| format!("`{k}`")).collect();
    (!all.is_empty() && all.len() <= 20).then(|| format!("known: {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let line = "  file: {path: 's3://me:pa@ss@b/x', endpoint: http://k@h}  # a@b";
        assert_eq!(masked(line), "  file: {path: 's3://********@b/x', endpoint: http://*@h}  # a@b");
        assert_eq!(masked("no url: a@b"), "no url: a@b");
    }
}
