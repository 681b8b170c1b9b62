//! Result files in, tables, plots and one HTML page out.
mod error;
mod result;
pub use error::{Error, Result};
pub use result::*;
