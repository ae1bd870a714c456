//! The chained record of every run at the DR site.
