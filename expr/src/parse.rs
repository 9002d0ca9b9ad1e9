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
    for token in &tokens {
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
