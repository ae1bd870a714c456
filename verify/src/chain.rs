//! The hash chain of the ledger.
