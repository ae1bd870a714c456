//! A drill report and its arithmetic.
