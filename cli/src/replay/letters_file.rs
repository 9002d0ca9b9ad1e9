//! The dead letters of one replay, written down before it starts, so that a crash cannot change what is replayed.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use conveyor_model::{Error, Result};
use conveyor_store::dlq::schema;

/// Writes letters to a file and makes it durable.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, letters: &[RecordBatch]) -> Result<()> {
    let unwritable = |e: std::io::Error| {
        Error::runtime("replay-file", "the letters of a replay cannot be written")
            .in_split(path.display())
            .because(e)
    };
    let failed = |e: ArrowError| {
        Error::runtime("replay-file", "the letters of a replay cannot be written")
            .in_split(path.display())
            .because(e)
    };
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    let aside = path.with_extension("tmp");
    let file = File::create(&aside).map_err(unwritable)?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema::schema()).map_err(failed)?;
    letters.iter().filter(|b| b.num_rows() > 0).try_for_each(|b| writer.write(b)).map_err(failed)?;
    let buffer = writer.into_inner().map_err(failed)?;
    let file = buffer.into_inner().map_err(|e| unwritable(e.into_error()))?;
    file.sync_all().map_err(unwritable)?;
    std::fs::rename(&aside, path).map_err(unwritable)?;
    File::open(&folder).and_then(|f| f.sync_all()).map_err(unwritable)
}

/// Batches of a file of letters, one in memory at a time.
pub type Letters = FileReader<BufReader<File>>;

/// Opens a file of letters.
///
/// # Errors
/// `replay-file` if it is gone or damaged.
pub fn open(path: &Path) -> Result<Letters> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::runtime("replay-file", "the letters of a replay cannot be read")
            .in_split(path.display())
            .because(e)
            .help("the data directory has lost it: the dead letters themselves are untouched")
    };
    let file = File::open(path).map_err(|e| failed(e.into()))?;
    FileReader::try_new_buffered(file, None).map_err(|e| failed(e.into()))
}
