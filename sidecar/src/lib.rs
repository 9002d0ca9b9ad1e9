//! The data plane: runs the tasks that it is told to run.
