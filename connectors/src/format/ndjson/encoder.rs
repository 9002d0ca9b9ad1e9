//! Rows into lines of JSON.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;
use conveyor_model::sink::Refused;

use super::super::text_write::{Fixed, Pen};
use super::nested;
use super::value::{Value, key};

/// Encoder of NDJSON.
#[derive(Debug)]
pub struct Encoder {
    names: Vec<String>,
    /// What stands before each value: the end of what went before and the key.
    keys: Vec<Fixed>,
    pen: Pen,
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// As for [`TextFormat::encoder`](super::super::TextFormat::encoder).
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        for field in schema.fields() {
            nested::check_written(field.name(), field.data_type())?;
        }
        let keys = names.iter().enumerate().map(|(i, name)| key(name, i == 0)).collect();
        Ok(Self { names, keys, pen: Pen::default() })
    }
}

impl super::super::Encoder for Encoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        let columns: Vec<Value> = rows.columns().iter().map(Value::new).collect::<Result<_>>()?;
        let mut refused = Refused::new();
        let pen = &mut self.pen;
        'rows: for row in 0..rows.num_rows() {
            let start = pen.at();
            for (at, (column, key)) in columns.iter().zip(&self.keys).enumerate() {
                pen.fixed(key);
                if !column.write(row, pen) {
                    pen.back(start);
                    let name = &self.names[at];
                    let message = format!("column `{name}`: JSON has no NaN and no infinite numbers");
                    refused.push((row, RowError::new("json-nan", message).column(name)));
                    continue 'rows;
                }
            }
            if columns.is_empty() {
                pen.room(1);
                pen.byte(b'{');
            }
            pen.room(2);
            pen.byte(b'}');
            pen.byte(b'\n');
            pen.send(out);
        }
        pen.flush(out);
        Ok(refused)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}
