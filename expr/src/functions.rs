//! The functions and planning rules that a row expression may use.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use arrow_schema::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion::sql::planner::ParserOptions;
use datafusion::{functions, functions_aggregate, functions_nested, functions_window};

use crate::error::{ExprError, nearest};
use crate::parse::offset_of_word;

/// The name of the one table in a stateless SELECT.
pub(crate) const INPUT: &str = "input";

static SCALARS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = functions::all_default_functions()
        .into_iter()
        .chain(functions_nested::all_default_nested_functions());
    let mut map = HashMap::new();
    for function in all {
        for alias in function.aliases() {
            map.insert(alias.clone(), Arc::clone(&function));
        }
        map.insert(function.name().to_owned(), function);
    }
    map
});

static HIGHER_ORDER: LazyLock<HashMap<String, Arc<HigherOrderUDF>>> = LazyLock::new(|| {
    let all = functions_nested::all_default_higher_order_functions();
    all.into_iter().map(|function| (function.name().to_owned(), function)).collect()
});

/// Names that a row expression cannot use because they look at many rows.
static OVER_ROWS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let aggregates = functions_aggregate::all_default_aggregate_functions();
    let windows = functions_window::all_default_window_functions();
    let aggregates = aggregates.iter().flat_map(|f| f.aliases().iter().cloned().chain([f.name().to_owned()]));
    let windows = windows.iter().flat_map(|f| f.aliases().iter().cloned().chain([f.name().to_owned()]));
    aggregates.chain(windows).collect()
});

pub(crate) static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
    let mut config = ConfigOptions::default();
    config.sql_parser.enable_ident_normalization = false;
    Arc::new(config)
});

/// How text becomes an expression: names keep their case.
pub(crate) fn parser_options() -> ParserOptions {
    ParserOptions::from(&CONFIG.sql_parser)
}

/// Answers the planner's questions and remembers the one it could not answer.
pub(crate) struct Functions {
    planners: Vec<Arc<dyn ExprPlanner>>,
    input: SchemaRef,
    unknown: Mutex<Option<String>>,
}

impl Functions {
    pub(crate) fn new(input: &SchemaRef) -> Self {
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(functions_nested::planner::NestedFunctionPlanner),
            Arc::new(functions_nested::planner::FieldAccessPlanner),
            Arc::new(functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(functions::unicode::planner::UnicodeFunctionPlanner),
        ];
        Self { planners, input: Arc::clone(input), unknown: Mutex::new(None) }
    }

    /// The error for the function that was asked for and not found, if there was one.
    pub(crate) fn unknown_function(&self, sql: &str) -> Option<ExprError> {
        let name = self.unknown.lock().ok()?.take()?;
        let at = offset_of_word(sql, &name);
        if OVER_ROWS.contains(&name) {
            let error =
                ExprError::new("aggregate", format!("`{name}` looks at many rows, an expression at one"));
            return Some(error.at(at).help("aggregates and window functions are no part of row expressions"));
        }
        let error = ExprError::new("unknown-function", format!("there is no function `{name}`")).at(at);
        let names = SCALARS.keys().chain(HIGHER_ORDER.keys()).map(String::as_str);
        // The map's order is random: of equally near names always the same is told.
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        Some(match nearest(&name, names) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("the functions are those of DataFusion"),
        })
    }
}

/// Refuses a function whose result is not determined by its arguments.
pub(crate) fn check_stable(function: &ScalarUDF, sql: &str) -> Result<(), ExprError> {
    let clocks = ["now", "current_timestamp", "current_date", "current_time", "today"];
    let volatile = function.signature().volatility == Volatility::Volatile;
    if !volatile && !clocks.contains(&function.name()) {
        return Ok(());
    }
    let name = function.name();
    let aliases = function.aliases().iter().map(String::as_str);
    let at = [name].into_iter().chain(aliases).find_map(|name| offset_of_word(sql, name));
    Err(ExprError::new(
        "not-deterministic",
        format!("`{name}` would give another result when the row is read again"),
    )
    .at(at)
    .help("results must be the same after a restart and in a replay: take the value from the data"))
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match name {
            TableReference::Bare { table } if table.eq_ignore_ascii_case(INPUT) => {
                Ok(Arc::new(LogicalTableSource::new(Arc::clone(&self.input))))
            }
            other => plan_err!("there is no table `{other}`: the rows are in the table `{INPUT}`"),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let name = name.to_lowercase();
        let found = SCALARS.get(&name).cloned();
        if found.is_none()
            && !HIGHER_ORDER.contains_key(&name)
            && let Ok(mut unknown) = self.unknown.lock()
        {
            *unknown = Some(name);
        }
        found
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        HIGHER_ORDER.get(&name.to_lowercase()).cloned()
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &CONFIG
    }

    fn udf_names(&self) -> Vec<String> {
        SCALARS.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        HIGHER_ORDER.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions whose values are not much larger than the arguments, whatever these are.
    const KEEPING: &str = "\
        abs acos acosh array_add array_any_value array_avg array_compact array_dims array_distance array_distinct \
        array_element array_except array_has array_has_all array_has_any array_intersect array_length array_max \
        array_min array_ndims array_normalize array_pop_back array_pop_front array_position array_positions \
        array_product array_remove array_remove_all array_remove_n array_reverse array_scale array_slice \
        array_sort array_subtract array_sum arrow_cast arrow_field arrow_metadata arrow_try_cast arrow_typeof \
        ascii asin asinh atan atan2 atanh bit_length btrim cardinality cast_to_type cbrt ceil \
        character_length chr coalesce contains cos cosh cosine_distance cot current_date current_time date_bin \
        date_part date_trunc decode degrees digest empty ends_with exp factorial file_row_index find_in_set \
        flatten floor from_unixtime gcd get_field greatest initcap inner_product input_file_name isnan \
        iszero lcm least left levenshtein ln log log10 log2 lower ltrim make_date make_time map_entries \
        map_extract map_keys map_values md5 nanvl now nullif nvl nvl2 octet_length pi power radians random \
        regexp_count regexp_instr regexp_like reverse right round rtrim sha224 sha256 sha384 sha512 signum \
        sin sinh split_part sqrt starts_with strpos substr substr_index tan tanh to_date to_hex \
        to_local_time to_time to_timestamp to_timestamp_micros to_timestamp_millis to_timestamp_nanos \
        to_timestamp_seconds to_unixtime trunc try_cast_to_type union_extract union_tag upper uuid version \
        with_metadata";

    #[test]
    fn every_function_is_known_to_grow_or_not() {
        let mut unknown: Vec<_> = SCALARS.values().map(|f| f.name().to_owned()).collect();
        unknown.retain(|name| !KEEPING.split_whitespace().any(|known| known == name));
        unknown.retain(|name| !crate::growth::GROWING.contains(&name.as_str()));
        unknown.sort_unstable();
        unknown.dedup();
        assert_eq!(unknown, Vec::<String>::new());
    }
}
