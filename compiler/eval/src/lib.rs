//! What a model is worth on given data: its accuracy or its distance from another model, its time, and its size.
//!
//! Contract: models are measured by running the very object that the compiler writes. The results are plain data, which
//! print as a table, as JSON and as a page.
