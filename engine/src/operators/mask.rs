//! `mask`: hides personal data. Null stays null; a hidden value never reaches an error or a log.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StringViewBuilder, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::DataType;
use conveyor_model::step::{MaskColumn, MaskMethod, Step};
use conveyor_model::{Batch, Error, Result};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::layout::{Layout, column_index, kernel};
use crate::operator::{BuildContext, Emitter, Operator};

/// Characters of a token after its prefix: 132 bits of the HMAC.
const TOKEN_CHARS: usize = 22;
/// The alphabet of URL-safe base64 (RFC 4648, section 5).
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One column to hide.
struct Column {
    index: usize,
    method: MaskMethod,
}

/// Hides columns one by one; nothing is remembered between values.
pub(super) struct Mask {
    columns: Vec<Column>,
    digest: Keyed,
    layout: Layout,
}

impl Mask {
    /// The operator of `step`. The key is resolved here and lives in this operator only.
    ///
    /// # Errors
    /// `mask-key-missing` if `tokenize` has no key; `mask-type` if a column has no text form; what resolving the key says.
    pub(super) fn new(
        step: &Step,
        columns: &[MaskColumn],
        key: Option<&conveyor_model::secret::SecretRef>,
        context: &BuildContext<'_>,
    ) -> Result<Self> {
        let key = key.map(|key| context.secrets.resolve(key)).transpose().map_err(|e| e.at(&step.name))?;
        let digest = Keyed::new(key.as_deref());
        let mut made = Vec::with_capacity(columns.len());
        let mut parts = Vec::with_capacity(columns.len());
        for column in columns {
            let index = column_index(step, &column.name)?;
            let from = step.input.field(index).data_type();
            check(step, column, from, &digest)?;
            made.push((column.name.clone(), output_type(&column.method, from)));
            parts.push(Column { index, method: column.method.clone() });
        }
        Ok(Self { columns: parts, digest, layout: Layout::new(step, &made)? })
    }

    fn hide(&self, values: &ArrayRef, method: &MaskMethod) -> Result<ArrayRef> {
        Ok(match method {
            MaskMethod::Nullify => new_null_array(values.data_type(), values.len()),
            MaskMethod::Redact { with } if is_text(values.data_type()) => redact(values, with),
            MaskMethod::Redact { .. } => new_null_array(values.data_type(), values.len()),
            MaskMethod::Partial { keep } => map_text(&as_text(values)?, |text, to| partial(text, *keep, to)),
            MaskMethod::Hash => self.digests(values, hex)?,
            MaskMethod::Tokenize => self.digests(values, token)?,
        })
    }

    /// One text a value, from the digest of its bytes.
    fn digests(&self, values: &ArrayRef, write: impl Fn(&[u8; 32], &mut String)) -> Result<ArrayRef> {
        Ok(map_text(&as_text(values)?, |text, to| write(&self.digest.of(text.as_bytes()), to)))
    }
}

impl Operator for Mask {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let made = self
            .columns
            .iter()
            .map(|c| self.hide(batch.rows().column(c.index), &c.method))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.layout.assemble(batch.rows(), &made)?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}

/// SHA-256, keyed where the step has a key.
enum Keyed {
    Plain,
    Hmac(Box<Hmac<Sha256>>),
}

impl Keyed {
    fn new(key: Option<&[u8]>) -> Self {
        match key {
            None => Keyed::Plain,
            Some(key) => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
                Keyed::Hmac(Box::new(mac))
            }
        }
    }

    fn of(&self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Keyed::Plain => Sha256::digest(bytes).into(),
            Keyed::Hmac(mac) => {
                let mut mac = mac.as_ref().clone();
                mac.update(bytes);
                mac.finalize().into_bytes().into()
            }
        }
    }
}

fn check(step: &Step, column: &MaskColumn, from: &DataType, digest: &Keyed) -> Result<()> {
    if column.method == MaskMethod::Tokenize && matches!(digest, Keyed::Plain) {
        return Err(Error::bad_input(
            "mask-key-missing",
            format!("`{}` cannot be tokenized without a key", column.name),
        )
        .at(&step.name)
        .help("add `key: {secret: {env: NAME}}` to the mask"));
    }
    let needs_text =
        matches!(column.method, MaskMethod::Hash | MaskMethod::Tokenize | MaskMethod::Partial { .. });
    let has_text = is_text(from) || (!is_binary(from) && can_cast_types(from, &DataType::Utf8View));
    if needs_text && !has_text {
        return Err(Error::bad_input(
            "mask-type",
            format!("`{}` is {from}, which has no text form", column.name),
        )
        .at(&step.name)
        .help("use `nullify`, or make it text before the mask"));
    }
    Ok(())
}

fn output_type(method: &MaskMethod, from: &DataType) -> DataType {
    match method {
        MaskMethod::Nullify => from.clone(),
        MaskMethod::Redact { .. } if !is_text(from) => from.clone(),
        _ => DataType::Utf8View,
    }
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_binary(of: &DataType) -> bool {
    matches!(
        of,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

fn as_text(values: &ArrayRef) -> Result<StringViewArray> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let text = cast_with_options(values, &DataType::Utf8View, &strict).map_err(kernel)?;
    Ok(text.as_string_view().clone())
}

fn redact(values: &ArrayRef, with: &str) -> ArrayRef {
    let mut to = StringViewBuilder::with_capacity(values.len()).with_deduplicate_strings();
    for row in 0..values.len() {
        to.append_option(values.is_valid(row).then_some(with));
    }
    Arc::new(to.finish())
}

/// Writes a text for each value that is not null.
fn map_text(values: &StringViewArray, write: impl Fn(&str, &mut String)) -> ArrayRef {
    let mut to = StringViewBuilder::with_capacity(values.len());
    let mut text = String::new();
    for value in values {
        match value {
            None => to.append_null(),
            Some(value) => {
                text.clear();
                write(value, &mut text);
                to.append_value(&text);
            }
        }
    }
    Arc::new(to.finish())
}

/// All but the last `keep` characters become `*`. A value that is no longer than that would be shown whole, so it is
/// hidden whole.
fn partial(text: &str, keep: u32, to: &mut String) {
    let (chars, keep) = (text.chars().count(), keep as usize);
    let hidden = if chars <= keep { chars } else { chars - keep };
    to.extend(std::iter::repeat_n('*', hidden));
    to.extend(text.chars().skip(hidden));
}

fn hex(digest: &[u8; 32], to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in digest {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn token(digest: &[u8; 32], to: &mut String) {
    to.push_str("tok_");
    for i in 0..TOKEN_CHARS {
        let (byte, bit) = (6 * i / 8, 6 * i % 8);
        let pair = u16::from_be_bytes([digest[byte], digest[byte + 1]]);
        to.push(char::from(URL_SAFE[usize::from(pair >> (10 - bit) & 63)]));
    }
}
