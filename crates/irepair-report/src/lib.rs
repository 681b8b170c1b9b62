//! Result files in, tables, plots and one HTML page out.
mod error;
pub mod paper;
mod result;
mod results;
mod table;
pub mod tables;
pub use error::{Error, Result};
pub use result::*;
pub use results::*;
pub use table::*;
