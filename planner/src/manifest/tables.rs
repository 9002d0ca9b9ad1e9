//! The tables of all manifest kinds and steps.

use super::shape::{Forms, Key, Role, Shape, Table, key, must};

/// The one apiVersion.
pub(crate) const API_VERSION: &str = "etl.router/v1";
/// Kinds; each also with the prefix `Etl`.
pub(crate) const KINDS: &[&str] = &["Source", "Transform", "Lookup", "Sink", "Pipeline"];
/// Most subtasks of a node.
pub(crate) const MAX_PARALLELISM: i64 = 1024;

const NAMES: Shape =
    Shape::Either(Forms { scalar: Some(&Shape::Text), list: Some(&Shape::List(&Shape::Text)), map: None });
const TYPES: Shape = Shape::Map(&Shape::Type);
const RETRIES: Shape = Shape::Integer { min: 0, max: 1_000_000 };
const PARALLELISM: Shape = Shape::Integer { min: 1, max: MAX_PARALLELISM };

pub(crate) static METADATA: Table = Table {
    connector: None,
    fields: &[
        must("name", Shape::Name, "Name, unique among the objects of its kind in the namespace."),
        key("namespace", Shape::Name, "Namespace; `default` when absent."),
        key("labels", Shape::Map(&Shape::Text), "Labels, to choose objects by."),
        key("annotations", Shape::Map(&Shape::Text), "Notes that mean nothing to the planner."),
    ],
};

static RETRY: Table = Table {
    connector: None,
    fields: &[
        key("maxRetries", RETRIES, "Tries after the first; 3 by default."),
        key("base", Shape::Duration, "First delay; 100ms by default, doubled each time."),
        key("max", Shape::Duration, "Longest delay; 10s by default."),
    ],
};

static EVENT_TIME: Table = Table {
    connector: None,
    fields: &[
        must("column", Shape::Text, "A timestamp or date column."),
        key(
            "allowedLateness",
            Shape::Duration,
            "How far the watermark trails the largest event time; 0s by default.",
        ),
        key(
            "idleTimeout",
            Shape::Duration,
            "A split without rows for this long does not hold back the watermark.",
        ),
        key("late", Shape::OneOf(&["keep", "drop", "dlq"]), "What happens to late rows; `keep` by default."),
    ],
};

macro_rules! source_keys {
    ($($first:expr),*) => {
        &[
            $($first,)*
            key("schema", TYPES, "Types of columns; the others are inferred."),
            key("eventTime", Shape::Object(&EVENT_TIME), "Which column says when a row happened."),
            key("parallelism", PARALLELISM, "Number of subtasks that read; the pipeline's by default."),
            key("retry", Shape::Object(&RETRY), "When the source does not answer."),
        ]
    };
}

macro_rules! sink_keys {
    ($($first:expr),*) => {
        &[
            $($first,)*
            key("when", Shape::Sql, "Boolean SQL; only rows for which it is true are written."),
            key("parallelism", PARALLELISM, "Number of subtasks that write; the pipeline's by default."),
            key("retry", Shape::Object(&RETRY), "When the sink does not answer."),
        ]
    };
}

pub(crate) static SOURCE: Table = Table { connector: Some(Role::Source), fields: source_keys!() };
pub(crate) static SOURCE_ALL: Table = Table {
    connector: Some(Role::Source),
    fields: source_keys!(key(
        "name",
        Shape::Name,
        "Name, for `from` and for finding its positions after an edit."
    )),
};
pub(crate) static SINK: Table = Table { connector: Some(Role::Sink), fields: sink_keys!() };
pub(crate) static SINK_ALL: Table = Table {
    connector: Some(Role::Sink),
    fields: sink_keys!(
        key("name", Shape::Name, "Name, for finding its ledger after an edit."),
        key("ref", Shape::Name, "A Sink object to use, when `from` or `when` are given here."),
        key("from", NAMES, "Steps or sources whose rows are written; the last step by default.")
    ),
};
pub(crate) static LOOKUP: Table = Table {
    connector: Some(Role::Lookup),
    fields: &[
        key("schema", TYPES, "Types of columns; the others are inferred."),
        key("refresh", Shape::Duration, "How often the table is loaded anew; never by default."),
    ],
};

pub(crate) static TRANSFORM: Table = Table {
    connector: None,
    fields: &[must("steps", Shape::List(&STEP_FORM), "Steps, one after the other.")],
};

static CHECKPOINT: Table = Table {
    connector: None,
    fields: &[key("interval", Shape::Duration, "Time between epochs; 10s by default.")],
};

static MERGE: Table = Table {
    connector: None,
    fields: &[
        must(
            "strategy",
            Shape::OneOf(&["arrival", "event_time"]),
            "How rows of several sources are put in one stream.",
        ),
        key("maxBytes", Shape::Size, "Most bytes held back while merging by event time; 64MiB by default."),
    ],
};

static DLQ: Table = Table {
    connector: None,
    fields: &[
        key(
            "enabled",
            Shape::Bool,
            "Whether failing rows are kept; `true` by default. If not, the first one stops the pipeline.",
        ),
        key("path", Shape::Text, "Local folder or object-store URL; under the data directory by default."),
        key("maxRetries", RETRIES, "Replays after which a row is left alone; 3 by default."),
        key(
            "maxRatio",
            Shape::Number { min: 0.0, max: 1.0 },
            "Share of rows over a minute above which the pipeline stops; 0.05 by default.",
        ),
        key(
            "wholeRows",
            Shape::Bool,
            "Whether columns that no later step or sink needs are read nevertheless, so that dead letters hold them; \
             `false` by default.",
        ),
    ],
};

static SOURCE_FORM: Shape =
    Shape::Either(Forms { scalar: Some(&Shape::Name), list: None, map: Some(&Shape::Object(&SOURCE_ALL)) });
static SINK_FORM: Shape =
    Shape::Either(Forms { scalar: Some(&Shape::Name), list: None, map: Some(&Shape::Object(&SINK_ALL)) });
static STEP_FORM: Shape =
    Shape::Either(Forms { scalar: Some(&Shape::Name), list: None, map: Some(&Shape::Object(&STEP)) });

pub(crate) static PIPELINE: Table = Table {
    connector: None,
    fields: &[
        key(
            "mode",
            Shape::OneOf(&["streaming", "job"]),
            "`job` runs, drains and exits; `streaming` (default) runs on.",
        ),
        key(
            "delivery",
            Shape::OneOf(&["exactly_once", "at_least_once"]),
            "What is promised; `exactly_once` by default.",
        ),
        key("checkpoint", Shape::Object(&CHECKPOINT), "Epochs."),
        key("parallelism", PARALLELISM, "Number of subtasks of each node."),
        key(
            "source",
            Shape::Either(Forms {
                scalar: Some(&Shape::Name),
                list: None,
                map: Some(&Shape::Object(&SOURCE_ALL)),
            }),
            "The source: a name or an inline object.",
        ),
        key("sources", Shape::List(&SOURCE_FORM), "Several sources."),
        key("merge", Shape::Object(&MERGE), "How several sources become one stream."),
        key("steps", Shape::List(&STEP_FORM), "Names of Transforms and inline steps."),
        key(
            "sink",
            Shape::Either(Forms {
                scalar: Some(&Shape::Name),
                list: None,
                map: Some(&Shape::Object(&SINK_ALL)),
            }),
            "The sink: a name or an inline object.",
        ),
        key(
            "sinks",
            Shape::List(&SINK_FORM),
            "Several sinks; a row goes to every sink whose condition holds.",
        ),
        key("dlq", Shape::Object(&DLQ), "Dead letters."),
        key("placement", Shape::Object(&PLACEMENT), "Which sidecars of a cluster run it."),
    ],
};

static PLACEMENT: Table = Table {
    connector: None,
    fields: &[
        key("labels", Shape::Map(&Shape::Text), "Only sidecars with all of these labels."),
        key(
            "spread",
            Shape::Bool,
            "Each node on another sidecar as far as there are enough; neighbours stay together by default.",
        ),
    ],
};

static MASK_METHODS: &[&str] = &["redact", "hash", "partial", "nullify", "tokenize"];
static MASK_COLUMN: Table = Table {
    connector: None,
    fields: &[
        key("method", Shape::OneOf(MASK_METHODS), "How the value is hidden."),
        key("with", Shape::Text, "Word that `redact` puts in place of text; `***` by default."),
        key(
            "keep",
            Shape::Integer { min: 0, max: 1_000_000 },
            "Characters at the end that `partial` keeps; 4 by default.",
        ),
        key("secret", SECRET_PLACE_FORM, "Under the name `key`: the key of `hash` and `tokenize`."),
    ],
};
static SECRET_PLACE: Table = Table {
    connector: None,
    fields: &[key("env", Shape::Text, "An environment variable."), key("file", Shape::Text, "A file.")],
};
const SECRET_PLACE_FORM: Shape = Shape::Object(&SECRET_PLACE);

static PARSE: Table = Table {
    connector: None,
    fields: &[
        must("column", Shape::Text, "The text column."),
        must("format", Shape::OneOf(&["json", "csv", "regex", "key_value"]), "How it is written."),
        must("fields", TYPES, "Columns that come out, with their types."),
        key("pattern", Shape::Text, "Regular expression with named groups; for `regex`."),
        key("delimiter", Shape::Text, "Between fields; `,` by default for `csv`, a space for `key_value`."),
        key("separator", Shape::Text, "Between key and value; `=` by default; for `key_value`."),
        key("keep", Shape::Bool, "Whether the text column stays; `false` by default."),
    ],
};

static FLATTEN: Table = Table {
    connector: None,
    fields: &[
        key("columns", NAMES, "Struct columns; all by default."),
        key("separator", Shape::Text, "Between parent and child; `_` by default."),
        key("explode", Shape::Text, "A list column: one row for each element."),
    ],
};

static RULE: Table = Table {
    connector: None,
    fields: &[
        key("name", Shape::Text, "Name of the rule; the condition by default."),
        must("rule", Shape::Sql, "Boolean SQL; false breaks the rule, null does not."),
    ],
};

static VALIDATE: Table = Table {
    connector: None,
    fields: &[
        must(
            "rules",
            Shape::Either(Forms {
                scalar: None,
                list: Some(&Shape::List(&Shape::Either(Forms {
                    scalar: Some(&Shape::Sql),
                    list: None,
                    map: Some(&Shape::Object(&RULE)),
                }))),
                map: Some(&Shape::Map(&Shape::Sql)),
            }),
            "Rules by name, or a list of conditions.",
        ),
        key(
            "onFail",
            Shape::OneOf(&["dlq", "drop", "fail"]),
            "What happens to a row that breaks a rule; `dlq` by default.",
        ),
    ],
};

/// `[column]`, or `{new: old}`.
const PICK: Shape = Shape::Either(Forms {
    scalar: None,
    list: Some(&Shape::List(&Shape::Either(Forms {
        scalar: Some(&Shape::Text),
        list: None,
        map: Some(&Shape::Map(&Shape::Text)),
    }))),
    map: Some(&Shape::Map(&Shape::Text)),
});

pub(crate) static LOOKUP_STEP: Table = Table {
    connector: Some(Role::InlineLookup),
    fields: &[
        key("table", Shape::Name, "Name of a Lookup object; or a connector in its place."),
        key("schema", TYPES, "With a connector: types of columns."),
        key("refresh", Shape::Duration, "With a connector: how often the table is loaded anew."),
        must(
            "on",
            Shape::Either(Forms {
                scalar: Some(&Shape::Text),
                list: Some(&Shape::List(&Shape::Text)),
                map: Some(&Shape::Map(&Shape::Text)),
            }),
            "Key columns: `{row's column: table's column}`, or names that are the same on both sides.",
        ),
        key(
            "select",
            LOOKUP_PICK,
            "Columns to take: `{table's column: new name}` or a list; all but the keys by default.",
        ),
        key(
            "onMiss",
            Shape::OneOf(&["keep", "drop", "dlq", "fail"]),
            "Rows without a match; `keep` (with nulls) by default.",
        ),
        key(
            "result",
            Shape::OneOf(&["merge", "nest", "prefix"]),
            "How the columns join the row; `merge` by default.",
        ),
        key("as", Shape::Text, "Name of the struct column for `nest`, the prefix for `prefix`."),
    ],
};
const LOOKUP_PICK: Shape = PICK;

static DEDUPE: Table = Table {
    connector: None,
    fields: &[
        must("key", NAMES, "Key columns."),
        must("within", Shape::Duration, "Rows with an equal key this close in event time are duplicates."),
        key("eventTime", Shape::Text, "Event-time column; the source's by default."),
        key(
            "maxKeys",
            Shape::Integer { min: 1, max: 1_000_000_000 },
            "Most keys remembered in one subtask; 10 million by default.",
        ),
    ],
};

static RATE_LIMIT: Table = Table {
    connector: None,
    fields: &[
        must(
            "rowsPerSecond",
            Shape::Number { min: 0.001, max: 1e12 },
            "Rows per second, for the whole step.",
        ),
        key(
            "burst",
            Shape::Integer { min: 1, max: 1_000_000_000 },
            "Rows that may pass at once after a quiet time; one second's worth by default.",
        ),
    ],
};

/// Keys of a step besides its kind.
pub(crate) const STEP_COMMON: usize = 2;
pub(crate) static STEP: Table = Table { connector: None, fields: STEP_KEYS };
static STEP_KEYS: &[Key] = &[
    key("name", Shape::Name, "Name, for `from` and for finding its state after an edit."),
    key(
        "from",
        NAMES,
        "Steps or sources whose rows it takes; the step before by default. Several are united.",
    ),
    key("filter", Shape::Sql, "Keeps the rows for which a condition is true."),
    key("compute", Shape::Map(&Shape::Sql), "Adds or replaces columns: `{column: SQL}`."),
    key("select", PICK, "Picks columns in this order, or renames: `[a, {new: old}]`."),
    key("drop", NAMES, "Leaves columns out."),
    key("rename", Shape::Map(&Shape::Text), "Renames columns: `{old: new}`."),
    key("cast", TYPES, "Changes types: `{column: type}`; a value that does not fit is a dead letter."),
    key(
        "mask",
        Shape::Map(&Shape::Either(Forms {
            scalar: Some(&Shape::OneOf(MASK_METHODS)),
            list: None,
            map: Some(&Shape::Object(&MASK_COLUMN)),
        })),
        "Hides personal data: `{column: method}`; `key: {secret: …}` is the key of `hash` and `tokenize`.",
    ),
    key("parse", Shape::Object(&PARSE), "Takes a text column apart."),
    key(
        "flatten",
        Shape::Object(&FLATTEN),
        "Lifts the fields of structs to the top, or makes a row of each list element.",
    ),
    key("validate", Shape::Object(&VALIDATE), "Checks rules."),
    key("lookup", Shape::Object(&LOOKUP_STEP), "Enriches rows from a table."),
    key("dedupe", Shape::Object(&DEDUPE), "Keeps the first row of each key within a window of event time."),
    key("rate_limit", Shape::Object(&RATE_LIMIT), "Lets rows pass at a bounded rate."),
    key("sql", Shape::Sql, "A stateless SELECT over the table `input`."),
    key("use", Shape::Name, "A Transform."),
    key(
        "split",
        Shape::Map(&Shape::Sql),
        "Branches by condition: `{name: SQL}`; later steps and sinks say `from: name`.",
    ),
];
