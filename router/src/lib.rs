//! The control plane: accepts plans, places tasks, completes epochs, reports status.
