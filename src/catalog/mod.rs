//! What happened, queryable: SQLite, a journal and a cache; the truth is the DR site.
