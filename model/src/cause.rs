//! What may be told of an outside server's error: its status, code and message.
//!
//! Clients of object stores put whole answers and request URLs into their errors. An answer to a wrong signature quotes
//! the key's id and what was signed, and a URL may carry a token as its query: neither belongs into a log.

use std::error::Error as StdError;

/// Longest text taken over from a server.
const MAX_CHARS: usize = 300;

/// A client's error in one line that may be shown: the innermost cause of a broken connection, or the status of an answer
/// with the code and the message that the server gives for it. Queries of URLs and all else of an answer are left out.
pub fn shown(error: &(dyn StdError + 'static)) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    let answer = texts.iter().rev().find_map(|t| t.split_once("status code: ").map(|(_, answer)| answer));
    let text = match answer {
        Some(answer) => status_and_message(answer),
        None => texts.last().cloned().unwrap_or_default(),
    };
    let line = text.split_whitespace().map(without_query).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The HTTP status in a client's error, if the server answered at all.
pub fn status(error: &(dyn StdError + 'static)) -> Option<u16> {
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if let Some((_, answer)) = text.split_once("status code: ") {
            return answer.get(..3)?.parse().ok();
        }
        next = cause.source();
    }
    None
}

/// `503 Service Unavailable: <body>` becomes `503 Service Unavailable`, with the body's code and message behind it.
fn status_and_message(answer: &str) -> String {
    let (status, body) = answer.split_once(": ").unwrap_or((answer.trim_end_matches(':'), ""));
    let between = |open: &str, close: &str| {
        let rest = body.split_once(open)?.1;
        rest.split_once(close).map(|(text, _)| text.trim())
    };
    let code = between("<Code>", "</Code>");
    let message = between("<Message>", "</Message>").or_else(|| between("\"message\":\"", "\""));
    // Behind its first line Azure's message goes on with the request's id and time.
    let message = message.and_then(|m| m.lines().next());
    [Some(status.trim_end_matches(':')), code, message].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn without_query(word: &str) -> &str {
    match (word.contains("://"), word.split_once('?')) {
        (true, Some((url, _))) => url,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Chained {
        text: &'static str,
        source: Option<Box<Chained>>,
    }

    fn chain(texts: &[&'static str]) -> Chained {
        let (text, rest) = texts.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(chain(rest)));
        Chained { text, source }
    }

    #[test]
    fn an_answer_keeps_status_code_and_message_only() {
        let answer = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error>\
            <Code>SignatureDoesNotMatch</Code><Message>The signature does not match</Message>\
            <AWSAccessKeyId>AKIA1</AWSAccessKeyId><StringToSign>AWS4-HMAC</StringToSign></Error>";
        let error = chain(&["Generic S3 error: all of it AKIA1", answer]);
        assert_eq!(shown(&error), "403 Forbidden: SignatureDoesNotMatch: The signature does not match");
        assert_eq!(status(&error), Some(403));
        let bare = chain(&["Server returned non-2xx status code: 503 Service Unavailable: "]);
        assert_eq!(shown(&bare), "503 Service Unavailable");
        let json =
            chain(&[r#"non-2xx status code: 404 Not Found: {"error":{"code":404,"message":"no bucket"}}"#]);
        assert_eq!(shown(&json), "404 Not Found: no bucket");
        let page = chain(&["non-2xx status code: 502 Bad Gateway: <html>token=abc</html>"]);
        assert_eq!(shown(&page), "502 Bad Gateway");
    }

    #[test]
    fn a_broken_connection_tells_its_innermost_cause_without_queries() {
        let error =
            chain(&["error for url (http://h/x?sig=secret)", "tcp connect error", "Connection refused"]);
        assert_eq!(shown(&error), "Connection refused");
        assert_eq!(status(&error), None);
        let url = chain(&["cannot open https://h/x?sig=secret now"]);
        assert_eq!(shown(&url), "cannot open https://h/x now");
        assert!(
            shown(&chain(&[Box::leak("ü".repeat(400).into_boxed_str())])).chars().count() <= MAX_CHARS + 1
        );
    }
}
