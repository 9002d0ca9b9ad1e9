//! From text to syntax tree, within limits: hostile text gives an error, never a stack overflow.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_schema::Schema;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::ExprError;

/// Longest text that is looked at, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Most operators in one text: chains such as `a + b + c` nest as deeply as they are long.
const MAX_OPERATORS: usize = 256;
/// Most open parentheses; each costs the parser several levels.
const MAX_PARENTHESES: usize = 20;
/// Most ways to read what is open. Words such as `CAST(` or `position(` may begin a form of their own or a function's call; where
/// the text is wrong further in, the parser tries all ways of all of them, one within the other.
const MAX_WAYS: u64 = 1024;
/// Longest name. Unknown ones are compared with all known ones, to name the nearest.
const MAX_NAME: usize = 128;
/// Levels that the parser itself goes down.
const PARSER_LEVELS: usize = 50;
/// Stack for planning, which recurses over the syntax tree with large frames.
const PLANNING_STACK: usize = 64 * 1024 * 1024;

/// Runs planning on a stack that holds the deepest tree that the limits allow, and turns a panic inside a library into
/// an error.
pub(crate) fn planning<T: Send>(plan: impl FnOnce() -> Result<T, ExprError> + Send) -> Result<T, ExprError> {
    let guarded = || {
        catch_unwind(AssertUnwindSafe(plan)).unwrap_or_else(|_| {
            Err(ExprError::new("internal", "the expression brought the SQL planner to a halt")
                .help("rephrase it"))
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("expr-planning".to_owned())
            .stack_size(PLANNING_STACK)
            .spawn_scoped(scope, guarded);
        match thread {
            Ok(thread) => thread.join().expect("a panic was caught inside"),
            Err(error) => Err(ExprError::new("internal", format!("no thread to plan on: {error}"))),
        }
    })
}

/// Parses one expression and nothing after it.
pub(crate) fn expression(sql: &str) -> Result<ast::Expr, ExprError> {
    let tokens = tokens(sql)?;
    if let Some(at) = tokens.iter().find(|t| is_keyword(t, &[Keyword::SELECT, Keyword::WITH])) {
        return Err(ExprError::new("subquery", "an expression looks at one row and cannot hold a query")
            .at(offset(sql, at))
            .help("use a lookup for other tables"));
    }
    let built = DFParserBuilder::new(tokens).with_recursion_limit(PARSER_LEVELS).build();
    let parsed = built.and_then(|mut parser| parser.parse_into_expr());
    let parsed = parsed.map_err(|e| ExprError::planning(&e, sql, &Schema::empty()))?;
    match parsed.alias {
        Some(alias) => {
            Err(ExprError::new("syntax", format!("`AS {}` has no place in an expression", alias.value))
                .at(offset_of_word(sql, &alias.value))
                .help("the column's name stands before the expression"))
        }
        None => Ok(parsed.expr),
    }
}

/// Parses one SELECT (or another query) and nothing after it.
pub(crate) fn select(sql: &str) -> Result<Box<ast::Query>, ExprError> {
    let built = DFParserBuilder::new(tokens(sql)?).with_recursion_limit(PARSER_LEVELS).build();
    let parsed = built.and_then(|mut parser| parser.parse_statements());
    let mut parsed = parsed.map_err(|e| ExprError::planning(&e, sql, &Schema::empty()))?;
    let not_one = || {
        ExprError::new("not-a-select", "this must be exactly one SELECT")
            .help("write SELECT … FROM input WHERE …")
    };
    match (parsed.pop_front(), parsed.is_empty()) {
        (Some(Statement::Statement(statement)), true) => match *statement {
            ast::Statement::Query(query) => Ok(query),
            _ => Err(not_one()),
        },
        _ => Err(not_one()),
    }
}

/// Splits the text into tokens and checks the limits.
fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, ExprError> {
    if sql.len() > MAX_TEXT {
        return Err(ExprError::new(
            "too-long",
            format!("the text is {} bytes long, more than {MAX_TEXT}", sql.len()),
        )
        .help("use a lookup table instead of long lists"));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(|e| {
        ExprError::new("syntax", e.message).at(offset_of(sql, e.location.line, e.location.column))
    })?;
    let (mut operators, mut open) = (0usize, 0usize);
    let mut opened: Vec<u64> = Vec::new();
    let mut before = 1;
    for token in &tokens {
        match &token.token {
            Token::LParen | Token::LBracket => opened.push(before),
            Token::RParen | Token::RBracket => drop(opened.pop()),
            Token::Word(word) if word.value.len() > MAX_NAME => {
                return Err(ExprError::new("too-long", format!("a name is longer than {MAX_NAME} bytes"))
                    .at(offset(sql, token)));
            }
            _ => {}
        }
        if opened.iter().fold(1, |all: u64, ways| all.saturating_mul(*ways)) > MAX_WAYS {
            return Err(ExprError::new("too-deep", "too many calls such as CAST(…) stand within each other")
                .at(offset(sql, token))
                .help("split the expression over several columns"));
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = ways(token);
        }
        match &token.token {
            Token::LParen => open += 1,
            Token::RParen => open = open.saturating_sub(1),
            _ if is_operator(token) => operators += 1,
            _ => {}
        }
        if operators > MAX_OPERATORS {
            return Err(ExprError::new("too-many-operators", format!("more than {MAX_OPERATORS} operators"))
                .at(offset(sql, token))
                .help("use IN (…) for many alternatives, or split the step"));
        }
        if open > MAX_PARENTHESES {
            return Err(ExprError::new(
                "too-deep",
                format!("more than {MAX_PARENTHESES} parentheses are open"),
            )
            .at(offset(sql, token))
            .help("split the expression over several columns"));
        }
    }
    if tokens.iter().all(|t| matches!(t.token, Token::Whitespace(_) | Token::EOF)) {
        return Err(ExprError::new("syntax", "the expression is empty"));
    }
    Ok(tokens)
}

/// How many ways the parser tries to read a word before a parenthesis.
fn ways(token: &TokenWithSpan) -> u64 {
    use Keyword::{
        ARRAY, CAST, CEIL, CONVERT, EXTRACT, FLOOR, INTERVAL, NOT, OVERLAY, POSITION, SAFE_CAST, SUBSTR,
        SUBSTRING, TRIM, TRY_CAST, TRY_CONVERT,
    };
    match &token.token {
        Token::Word(_) if is_keyword(token, &[POSITION]) => 3,
        Token::Word(_)
            if is_keyword(
                token,
                &[
                    ARRAY,
                    CAST,
                    CEIL,
                    CONVERT,
                    EXTRACT,
                    FLOOR,
                    INTERVAL,
                    NOT,
                    OVERLAY,
                    SAFE_CAST,
                    SUBSTR,
                    SUBSTRING,
                    TRIM,
                    TRY_CAST,
                    TRY_CONVERT,
                ],
            ) =>
        {
            2
        }
        _ => 1,
    }
}

fn is_keyword(token: &TokenWithSpan, keywords: &[Keyword]) -> bool {
    matches!(&token.token, Token::Word(w) if w.quote_style.is_none() && keywords.contains(&w.keyword))
}

/// Whether a token can add a level to the tree without a parenthesis.
fn is_operator(token: &TokenWithSpan) -> bool {
    use Keyword::{
        AND, AT, BETWEEN, CASE, COLLATE, DIV, ILIKE, IN, IS, LIKE, NOT, OR, OVERLAPS, RLIKE, SIMILAR, XOR,
    };
    match &token.token {
        Token::Word(_) => is_keyword(
            token,
            &[
                AND, AT, BETWEEN, CASE, COLLATE, DIV, ILIKE, IN, IS, LIKE, NOT, OR, OVERLAPS, RLIKE, SIMILAR,
                XOR,
            ],
        ),
        Token::EOF
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::SemiColon => false,
        _ => true,
    }
}

fn offset(sql: &str, token: &TokenWithSpan) -> Option<usize> {
    offset_of(sql, token.span.start.line, token.span.start.column)
}

/// Byte offset of a line and a column in characters, both from 1.
pub(crate) fn offset_of(sql: &str, line: u64, column: u64) -> Option<usize> {
    let start = match line {
        0 => return None,
        1 => 0,
        n => sql.match_indices('\n').nth(usize::try_from(n).ok()? - 2)?.0 + 1,
    };
    let skip = usize::try_from(column).ok()?.checked_sub(1)?;
    Some(sql[start..].char_indices().nth(skip).map_or(sql.len(), |(at, _)| start + at))
}

/// Byte offset of the first token that is this name, in any case.
pub(crate) fn offset_of_word(sql: &str, name: &str) -> Option<usize> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok()?;
    let is_name = |exact: bool| {
        move |t: &&TokenWithSpan| match &t.token {
            Token::Word(w) if exact => w.value == name,
            Token::Word(w) => w.value.eq_ignore_ascii_case(name),
            _ => false,
        }
    };
    let found = tokens.iter().find(is_name(true)).or_else(|| tokens.iter().find(is_name(false)));
    offset(sql, found?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// What fuzzing has found: the parser tries every form of every word, one within the other.
    #[test]
    fn words_with_several_forms_do_not_multiply_for_ever() {
        let begins =
            ["position(", "substr(s, 1, ", "ARRAY[", "CAST(", "not (", "ceil( ", "extract(year from "];
        for begin in begins {
            for times in [15, 19, 45] {
                let sql = format!("{}a", begin.repeat(times));
                let (send, receive) = channel();
                std::thread::spawn(move || drop(send.send(expression(&sql).map(drop))));
                let answer = receive.recv_timeout(Duration::from_secs(20)).expect("an answer in time");
                let error = answer.expect_err("nothing is closed");
                assert_eq!(error.code, "too-deep", "{begin}: {error:?}");
            }
        }
        let usual = "CAST(substr(trim(CAST(ceil(abs(CAST(a AS DOUBLE))) AS VARCHAR)), 1, 2) AS BIGINT)";
        assert!(expression(usual).is_ok());
        assert!(
            expression(&format!("[{}]", ["CAST(a AS INT)"; 100].join(", "))).is_ok(),
            "beside each other"
        );
    }

    #[test]
    fn endless_names_are_refused() {
        let error = expression(&format!("{}(a)", "f".repeat(1000))).expect_err("no such function");
        assert_eq!(error.code, "too-long");
    }
}
