//! openraft's storage suite on the real store and the real disk.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::identity;
use crate::disk::{Disk, RealDisk};
use crate::replicated::machine::Machine;
use crate::replicated::store::LogStore;
use crate::replicated::types::{StorageError, Types};
use crate::replicated::{create_on, open_files};

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        create_on(disk.clone(), dir.path(), &identity(0, "suite")).expect("created");
        let (_, store, machine) = open_files(disk, dir.path(), 512).expect("opens");
        Ok((dir, store, machine))
    }
}

#[test]
fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).expect("the suite passes");
}
