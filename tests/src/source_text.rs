//! Just enough of Rust's lexical form to measure functions and to look for words outside comments and literals.

/// A function found in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// The text with comments and the insides of string and character literals replaced by spaces, line ends kept.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_at(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).expect("whole characters were replaced by ASCII or kept")
}

/// End of the comment or literal that begins at `at`, or `at` if none does.
fn skip_at(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(bytes, at);
    }
    if rest[0] == b'"' {
        return string(bytes, at);
    }
    if !in_word && (rest[0] == b'r' || rest.starts_with(b"br")) {
        return raw_string(bytes, at);
    }
    if rest[0] == b'\'' {
        return character(bytes, at);
    }
    at
}

fn block_comment(bytes: &[u8], at: usize) -> usize {
    let (mut i, mut depth) = (at, 0);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    i
}

fn string(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

fn raw_string(bytes: &[u8], at: usize) -> usize {
    let mut i = at + if bytes[at] == b'b' { 2 } else { 1 };
    let hashes = bytes[i..].iter().take_while(|&&b| b == b'#').count();
    i += hashes;
    if bytes.get(i) != Some(&b'"') {
        return at;
    }
    i += 1;
    while i < bytes.len() {
        let closes =
            bytes[i] == b'"' && bytes[i + 1..].iter().take(hashes).filter(|&&b| b == b'#').count() == hashes;
        i += 1;
        if closes {
            return i + hashes;
        }
    }
    i
}

/// A character literal, told from a lifetime by its closing quote.
fn character(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let close = bytes[at + 3..].iter().position(|&b| b == b'\'').unwrap_or(0);
            at + 4 + close
        }
        Some(_) => {
            let width = std::str::from_utf8(&bytes[at + 1..(at + 5).min(bytes.len())])
                .map_or_else(|e| e.valid_up_to(), str::len)
                .min(4);
            let first = std::str::from_utf8(&bytes[at + 1..at + 1 + width]).unwrap_or_default();
            let len = first.chars().next().map_or(1, char::len_utf8);
            if bytes.get(at + 1 + len) == Some(&b'\'') { at + 2 + len } else { at }
        }
        None => at,
    }
}

/// Every function with a body, nested ones too. `code` comes from [`code_only`].
pub fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(place) = code[from..].find("fn ") {
        let at = from + place;
        from = at + 3;
        if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
            continue;
        }
        let name: String = code[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(bytes, from) {
            let line = 1 + code[..at].matches('\n').count();
            found.push(Function { name, line, lines: 1 + code[at..end].matches('\n').count() });
        }
    }
    found
}

/// End of the body that follows a signature, or nothing where a `;` ends it first.
fn body_end(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut round, mut curly) = (0i32, 0i32);
    for (i, &b) in bytes.iter().enumerate().skip(from) {
        match b {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly == 0 {
                    return Some(i);
                }
            }
            b';' if round == 0 && curly == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The code without what is compiled for tests only: items under `#[cfg(test)]` become empty lines.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    while let Some(at) = out.find("#[cfg(test)]") {
        let end = body_end(out.as_bytes(), at + 12)
            .map_or_else(|| out[at..].find(';').map_or(out.len(), |n| at + n + 1), |end| end + 1);
        let blank: String = out[at..end].chars().filter(|c| *c == '\n').collect();
        out.replace_range(at..end, &blank);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        let text =
            "let a = \"fn {\"; // fn x() {\nlet c = '{'; let l: &'static str = r#\"}\"}\"#; /* { */ b'\\''";
        let code = code_only(text);
        assert!(!code.contains('{') && !code.contains('}'), "{code}");
        assert!(code.contains("&'static str"));
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn functions_are_measured() {
        let code = code_only("fn a(x: [u8; 2]) {\n  if x {\n  }\n}\ntrait T { fn b(); fn c() {} }\n");
        let lengths: Vec<_> = functions(&code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(lengths, [("a".into(), 1, 4), ("c".into(), 5, 1)]);
    }

    #[test]
    fn test_items_are_left_out() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { x.unwrap() }\n}\n#[cfg(test)]\nuse x::y;\nfn c() {}\n";
        let rest = without_tests(code);
        assert!(!rest.contains("unwrap") && !rest.contains("use x"));
        assert!(rest.contains("fn c()"));
        assert_eq!(rest.matches('\n').count(), code.matches('\n').count());
    }
}
