//! Laws of reconciliation.
