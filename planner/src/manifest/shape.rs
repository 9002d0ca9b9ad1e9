//! What a manifest may look like, as data: the parser checks with these tables and the JSON Schema is made of them.

/// The form of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Text; numbers must be in quotes.
    Text,
    /// A name: RFC 1123 label.
    Name,
    /// SQL; any scalar, so that `1` and `true` are expressions too.
    Sql,
    /// A type name as in [`crate::types`].
    Type,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Duration,
    Size,
    OneOf(&'static [&'static str]),
    List(&'static Shape),
    Map(&'static Shape),
    Object(&'static Table),
    /// One of several forms, told apart by what stands there.
    Either(Forms),
}

/// Forms by what stands in the manifest; `None` is not allowed.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    pub(crate) scalar: Option<&'static Shape>,
    pub(crate) list: Option<&'static Shape>,
    pub(crate) map: Option<&'static Shape>,
}

/// The keys of a mapping.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) fields: &'static [Key],
    /// Besides these keys, one that names a connector of this role.
    pub(crate) connector: Option<Role>,
}

/// What a connector is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Sink,
    /// A lookup object: a connector must be there.
    Lookup,
    /// A lookup step: a connector stands in place of a table's name.
    InlineLookup,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Sink => "sink",
            Role::Lookup | Role::InlineLookup => "lookup",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) doc: &'static str,
}

pub(crate) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

pub(crate) const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}
