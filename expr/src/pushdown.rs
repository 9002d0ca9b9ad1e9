//! Takes out of a condition what a source can test by itself.

use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use conveyor_model::predicate::{Comparison, Condition, Literal as Constant, Predicate};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr as Logical, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr, TryCastExpr,
};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as Tree};

use crate::expr::Expr;
use crate::parse;

/// The conditions and the residual SQL.
pub(crate) fn split(expr: &Expr) -> (Predicate, Option<String>) {
    let whole = || (Predicate::default(), Some(expr.sql().to_owned()));
    if expr.data_type() != &DataType::Boolean {
        return whole();
    }
    parse::planning(|| Ok(split_text(expr))).ok().flatten().unwrap_or_else(whole)
}

/// `None` if the parts do not stand on their own.
fn split_text(expr: &Expr) -> Option<(Predicate, Option<String>)> {
    let input = expr.input();
    let mut parts = Vec::new();
    conjuncts(parse::expression(expr.sql()).ok()?, &mut parts);
    let (mut all, mut rest, mut may_fail) = (Vec::new(), Vec::new(), false);
    for part in parts {
        let text = part.to_string();
        let compiled = Expr::plan(&text, input, true).ok()?;
        match conditions(compiled.logical(), input) {
            Some(conditions) if !may_fail => all.extend(conditions),
            _ => {
                may_fail |= !cannot_fail(&compiled.compiled().physical);
                rest.push(text);
            }
        }
    }
    let residual = match rest.len() {
        0 => None,
        1 => rest.pop(),
        _ => Some(rest.iter().map(|text| format!("({text})")).collect::<Vec<_>>().join(" AND ")),
    };
    if let Some(text) = &residual {
        Expr::plan(text, input, true).ok()?;
    }
    Some((Predicate { all }, residual))
}

fn conjuncts(tree: Tree, parts: &mut Vec<Tree>) {
    match tree {
        Tree::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, parts);
            conjuncts(*right, parts);
        }
        Tree::Nested(inner) if matches!(*inner, Tree::BinaryOp { op: BinaryOperator::And, .. }) => {
            conjuncts(*inner, parts);
        }
        other => parts.push(other),
    }
}

/// The conditions that together say the same; `None` if some part cannot be said so.
fn conditions(logical: &Logical, input: &SchemaRef) -> Option<Vec<Condition>> {
    if let Logical::Literal(ScalarValue::Boolean(Some(true)), _) = logical {
        return Some(Vec::new());
    }
    split_conjunction(logical).into_iter().map(|part| condition(part, input)).collect()
}

fn condition(part: &Logical, input: &SchemaRef) -> Option<Condition> {
    let is = |column: &str, value| {
        Some(Condition::Compare {
            column: column.to_owned(),
            op: Comparison::Eq,
            value: Constant::Bool(value),
        })
    };
    match part {
        Logical::Column(column) => is(&column.name, true),
        Logical::Not(inner) => match inner.as_ref() {
            Logical::Column(column) => is(&column.name, false),
            _ => None,
        },
        Logical::IsNull(inner) => null_test(inner, false),
        Logical::IsNotNull(inner) => null_test(inner, true),
        Logical::InList(list) if !list.negated => {
            let Logical::Column(column) = list.expr.as_ref() else { return None };
            let constants = list.list.iter().map(|value| constant(&column.name, value, input));
            Some(Condition::In { column: column.name.clone(), values: constants.collect::<Option<_>>()? })
        }
        Logical::BinaryExpr(binary) if binary.op == Operator::Or => alternatives(part, input),
        Logical::BinaryExpr(binary) => {
            let op = comparison(binary.op)?;
            let (column, op, value) = match (binary.left.as_ref(), binary.right.as_ref()) {
                (Logical::Column(column), value) => (column, op, value),
                (value, Logical::Column(column)) => (column, turned(op), value),
                _ => return None,
            };
            let value = constant(&column.name, value, input)?;
            Some(Condition::Compare { column: column.name.clone(), op, value })
        }
        _ => None,
    }
}

/// `a = 1 OR a = 2`: short lists come out of the simplifier in this form.
fn alternatives(part: &Logical, input: &SchemaRef) -> Option<Condition> {
    let (mut name, mut all) = (None, Vec::new());
    let mut open = vec![part];
    while let Some(next) = open.pop() {
        if let Logical::BinaryExpr(binary) = next
            && binary.op == Operator::Or
        {
            open.extend([binary.right.as_ref(), binary.left.as_ref()]);
            continue;
        }
        let (column, values) = match condition(next, input)? {
            Condition::Compare { column, op: Comparison::Eq, value } => (column, vec![value]),
            Condition::In { column, values } => (column, values),
            _ => return None,
        };
        if *name.get_or_insert_with(|| column.clone()) != column {
            return None;
        }
        all.extend(values);
    }
    Some(Condition::In { column: name?, values: all })
}

fn null_test(inner: &Logical, negated: bool) -> Option<Condition> {
    match inner {
        Logical::Column(column) => Some(Condition::IsNull { column: column.name.clone(), negated }),
        _ => None,
    }
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Eq,
        Operator::NotEq => Comparison::NotEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

/// The same comparison with its sides exchanged.
fn turned(op: Comparison) -> Comparison {
    match op {
        Comparison::Eq | Comparison::NotEq => op,
        Comparison::Lt => Comparison::Gt,
        Comparison::LtEq => Comparison::GtEq,
        Comparison::Gt => Comparison::Lt,
        Comparison::GtEq => Comparison::LtEq,
    }
}

/// A constant of the column's own type, if a predicate can hold it.
fn constant(column: &str, value: &Logical, input: &SchemaRef) -> Option<Constant> {
    let Logical::Literal(value, _) = value else { return None };
    let data_type = input.field_with_name(column).ok()?.data_type();
    if value.is_null() || &value.data_type() != data_type {
        return None;
    }
    Some(match value {
        ScalarValue::Boolean(Some(v)) => Constant::Bool(*v),
        ScalarValue::Int8(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::Int16(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::Int32(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::Int64(Some(v)) => Constant::Int(*v),
        ScalarValue::UInt8(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::UInt16(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::UInt32(Some(v)) => Constant::Int((*v).into()),
        ScalarValue::UInt64(Some(v)) => Constant::Int(i64::try_from(*v).ok()?),
        // Zero has two signs, and not all that test a predicate order them alike.
        ScalarValue::Float64(Some(v)) if v.is_finite() && *v != 0.0 => Constant::Float(*v),
        ScalarValue::Float32(Some(v)) if v.is_finite() && *v != 0.0 => Constant::Float((*v).into()),
        ScalarValue::Utf8(Some(v)) | ScalarValue::LargeUtf8(Some(v)) | ScalarValue::Utf8View(Some(v)) => {
            Constant::Text(v.clone())
        }
        ScalarValue::TimestampMicrosecond(Some(v), Some(_)) => Constant::TimestampUs(*v),
        ScalarValue::Date32(Some(v)) => Constant::Date(*v),
        _ => return None,
    })
}

/// Whether no row can make it fail; when in doubt, it can.
fn cannot_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let known = expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<NotExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<InListExpr>()
        || expr.is::<TryCastExpr>()
        || expr.downcast_ref::<LikeExpr>().is_some_and(|like| like.pattern().is::<Literal>())
        || expr.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
            comparison(*binary.op()).is_some() || matches!(binary.op(), Operator::And | Operator::Or)
        });
    known && expr.children().into_iter().all(cannot_fail)
}
